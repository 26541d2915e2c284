"""The state of a master: its slaves' states, and the quarantine.

Each write contains the fence of :mod:`.leases`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgpack

from portable_core.adapters.firestore.batches import CommitBuilder, DocumentOptions
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    count_parts,
    format_time,
    split_value,
    write_document,
)
from portable_core.adapters.firestore.leases import commit_fenced, make_fence
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.records import fetch_parts
from portable_core.errors import RecordRefused, StoreDamaged, StoreError
from portable_core.ports import Lease, PartState, Quarantined, SlaveState
from portable_core.records import Pair, pack_value, unpack_value

_SLAVES, _QUARANTINE = "slaves", "quarantine"
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
        )
    return states


def _read_part(text: str) -> PartState | None:
    return PartState(*json.loads(text)) if text else None


def save_slave(database: Database, lease: Lease, name: str, state: SlaveState) -> None:
    """Save a slave's state. Raise ``LeaseLost``, or ``StoreError`` if no document can hold it."""
    try:
        write = write_document(
            database.name(_SLAVES, "s-" + quote(name, safe="")),
            {
                "key": name,
                "cursor": state.cursor,
                "store": state.store,
                "generation": state.generation,
                "window": state.window,
                "report": json.dumps(dict(state.report)),
                "part": "" if state.part is None else json.dumps(state.part),
            },
        )
    except (ValueError, OverflowError) as error:
        raise StoreError(f"Firestore cannot hold the state of {name!r}: {error}") from error
    commit_fenced(database, lease, [make_fence(database, lease), write])


def save_quarantine(database: Database, lease: Lease, items: Sequence[Quarantined]) -> None:
    """Save items. Raise ``LeaseLost``, or ``RecordRefused`` if no document can hold an item."""
    builder = CommitBuilder(database, DocumentOptions(), [make_fence(database, lease)])

    def plan() -> Iterator[list[Any]]:
        for item in items:
            try:
                parts, write = _encode_item(database, item)
            except (ValueError, OverflowError) as error:
                raise RecordRefused(
                    f"Firestore cannot hold the record {item.id!r} of the quarantine: {error}"
                ) from error
            yield from builder.add_parts(_name_value(write.update.name), parts)
            yield from builder.add(write)
        yield from builder.finish(fence_alone=not items)

    for writes in plan():
        commit_fenced(database, lease, writes)


def _encode_item(database: Database, item: Quarantined) -> tuple[list[bytes], Any]:
    """Return the parts, to be written first, and the ``Write`` of the document."""
    pair = item.record.pair
    header = (item.id, item.slave, item.at, item.reason, pair.timestamp, pair.hash)
    value = msgpack.packb((*header, pack_value(item.record)))
    digest = hashlib.blake2b(item.id.encode(), digest_size=16).hexdigest()
    parts = split_value(value)
    small = len(parts) == 1
    write = write_document(
        database.name(_QUARANTINE, digest),
        {
            "key": format_time(item.at) + (item.id if len(item.id) <= 300 else digest),
            "slave": item.slave,
            "reason": item.reason[:1000],
            "value": value if small else None,
            "parts": None if small else len(parts),
        },
    )
    return [] if small else parts, write


def _name_value(document: str) -> str:
    """Return the id under which a document's parts are named."""
    return "q" + document.rpartition("/")[2]


def read_quarantine(database: Database) -> Iterator[Quarantined]:
    for document in database.scan(RangeQuery(_QUARANTINE, "key"), _FEW):
        value = document.fields["value"].bytes_value
        parts = count_parts(document)
        if parts:
            body = fetch_parts(database, _name_value(document.name), parts)
            if body is None:
                raise StoreDamaged(f"a part of {document.name} is missing")
            value = body
        id_, slave, at, reason, timestamp, hash_, packed = msgpack.unpackb(value)
        record = unpack_value(Pair(timestamp, hash_), packed)
        yield Quarantined(id_, slave, at, reason, record)
