"""The master's state in ``state.sqlite3``: leases, slaves' states, the quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portable_core.adapters.sqlite.files import STATE_NAME, FileDamaged
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import Statement
from portable_core.errors import LeaseHeld, LeaseLost, StoreDamaged
from portable_core.ports import Lease, Milliseconds, PartState, Quarantined, SlaveState
from portable_core.records import Pair, pack_value, unpack_value

_ORDER_SQL = (
    "INSERT OR IGNORE INTO quarantine_order (key, value) "
    "SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE key = ?)"
)
_QUARANTINE_SQL = "INSERT OR IGNORE INTO quarantine (key, value) VALUES (?, ?)"
_LIST_SQL = "SELECT key, value FROM quarantine_order WHERE key > ? ORDER BY key LIMIT 100"
_ITEM_SQL = "SELECT value FROM quarantine WHERE key = ?"


class SqliteMasterState:
    """``MasterState`` without the records. Safe to use from any thread.

    One lock covers three things: comparing a lease, the write under that lease, and acquiring a new
    lease. Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(self, state: State, reader: Reader) -> None:
        self._state = state
        self._reader = reader

    def acquire_lease(
        self, holder: str, now: Milliseconds, ttl: Milliseconds, until: float
    ) -> Lease:
        with self._state.writing(until):
            held = self._state.lease()
            if now < held.expires:
                raise LeaseHeld(f"{held.holder} is syncing. Try again when that sync has ended.")
            return self._save_lease(Lease(held.token + 1, holder, now + ttl), until)

    def renew_lease(
        self, lease: Lease, now: Milliseconds, ttl: Milliseconds, until: float
    ) -> Lease:
        with self._state.writing(until):
            self.check_lease(lease)
            return self._save_lease(Lease(lease.token, lease.holder, now + ttl), until)

    def release_lease(self, lease: Lease, until: float) -> None:
        with self._state.writing(until):
            if self._state.lease().token == lease.token:
                self._save_lease(Lease(lease.token + 1, "", 0), until)

    def _save_lease(self, lease: Lease, until: float) -> Lease:
        self._state.commit({("store", "lease"): [lease.token, lease.holder, lease.expires]}, until)
        return lease

    def check_lease(self, lease: Lease) -> None:
        if self._state.lease().token != lease.token:
            raise LeaseLost(
                "this sync lost its lease; nothing was written. The next sync continues."
            )

    def slave_states(self) -> dict[str, SlaveState]:
        return {name: _decode_slave(slave) for name, slave in self._state.slaves().items()}

    def save_slave(self, lease: Lease, name: str, state: SlaveState, until: float) -> None:
        with self._state.writing(until):
            self.check_lease(lease)
            value: dict[str, object] = {
                "cursor": state.cursor,
                "store": state.store,
                "generation": state.generation,
                "window": state.window,
                "report": dict(state.report),
            }
            if state.part is not None:
                value["part"] = list(state.part)
            self._state.commit_with_files({("slave", name): value}, until)

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined], until: float) -> None:
        statements: list[Statement] = []
        for item in items:
            pair = item.record.pair
            header = [item.id, item.slave, item.at, item.reason, pair.timestamp, pair.hash]
            key = f"{max(item.at, 0):014x}{item.id}"
            statements.append((_ORDER_SQL, (key, json.dumps(header).encode(), item.id)))
            statements.append((_QUARANTINE_SQL, (item.id, pack_value(item.record))))
        with self._state.writing(until):
            self.check_lease(lease)
            if statements:
                self._state.commit({}, until, statements)

    def quarantine(self) -> Iterator[Quarantined]:
        after = ""
        try:
            while rows := self._reader.query(STATE_NAME, _LIST_SQL, (after,)):
                for key, header in rows:
                    after = key.decode()
                    id_, slave, at, reason, timestamp, hash_ = json.loads(header)
                    for (value,) in self._reader.query(STATE_NAME, _ITEM_SQL, (id_,)):
                        record = unpack_value(Pair(timestamp, hash_), value)
                        yield Quarantined(id_, slave, at, reason, record)
        except (FileDamaged, ValueError, TypeError) as error:
            raise StoreDamaged(f"the quarantine cannot be read: {error}") from error


def _decode_slave(value: Mapping[str, Any]) -> SlaveState:
    """Return the saved state of a slave; members of newer releases are ignored."""
    part = value.get("part")
    return SlaveState(
        value["cursor"],
        value["store"],
        value["generation"],
        value["window"],
        value["report"],
        None if part is None else PartState(*part),
    )
