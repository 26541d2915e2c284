"""The state of a master: its slaves' states. Each write has the fence of :mod:`.leases`."""

from __future__ import annotations

import json
from urllib.parse import quote

import msgspec

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import delete_document, write_document
from portable_core.adapters.firestore.leases import commit_fenced, make_fence
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.epochs import NotedLoss, Stint
from portable_core.errors import StoreError
from portable_core.ports import Lease, PartState, SlaveState

_SLAVES = "slaves"
_FEW = 16  # documents in one request, where each may be large


def read_slaves(database: Database) -> dict[str, SlaveState]:
    states = {}
    for document in database.scan(RangeQuery(_SLAVES, "key"), _FEW):
        fields = document.fields
        states[fields["key"].string_value] = SlaveState(
            cursor=fields["cursor"].integer_value if "cursor" in fields else None,
            store=fields["store"].string_value,
            generation=fields["generation"].integer_value,
            window=fields["window"].integer_value if "window" in fields else None,
            report=json.loads(fields["report"].string_value),
            part=_read_part(fields["part"].string_value if "part" in fields else ""),
            stint=_read_stint(fields["stint"].string_value if "stint" in fields else ""),
            losses=_read_losses(fields["losses"].string_value if "losses" in fields else ""),
        )
    return states


def _read_part(text: str) -> PartState | None:
    return PartState(*json.loads(text)) if text else None


def _read_stint(text: str) -> Stint | None:
    return Stint(*json.loads(text)) if text else None


def _read_losses(text: str) -> tuple[NotedLoss, ...]:
    return msgspec.json.decode(text, type=tuple[NotedLoss, ...]) if text else ()


def save_slave(database: Database, lease: Lease, name: str, state: SlaveState | None) -> None:
    """Save a slave's state, or forget it (None).

    Raises ``LeaseLost``, or ``StoreError`` if no document can hold it.
    """
    document = database.name(_SLAVES, "s-" + quote(name, safe=""))
    if state is None:
        commit_fenced(database, lease, [make_fence(database, lease), delete_document(document)])
        return
    try:
        write = write_document(
            document,
            {
                "key": name,
                "cursor": state.cursor,
                "store": state.store,
                "generation": state.generation,
                "window": state.window,
                "report": json.dumps(dict(state.report)),
                "part": "" if state.part is None else json.dumps(state.part),
                "stint": "" if state.stint is None else json.dumps(state.stint),
                "losses": msgspec.json.encode(state.losses).decode() if state.losses else "",
            },
        )
    except (ValueError, OverflowError) as error:
        raise StoreError(f"Firestore cannot hold the state of {name!r}: {error}") from error
    commit_fenced(database, lease, [make_fence(database, lease), write])
