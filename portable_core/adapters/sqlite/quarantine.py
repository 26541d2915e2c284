"""The quarantine in ``state.sqlite3``: a table of records, one of their order, and their sum."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from portable_core.adapters.sqlite.files import STATE_NAME, FileDamaged
from portable_core.adapters.sqlite.master_state import SqliteMasterState
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import Statement
from portable_core.errors import StoreDamaged
from portable_core.ports import Lease, Quarantined, QuarantineEntry, QuarantineSize
from portable_core.records import Pair, pack_value, unpack_value

_ORDER_SQL = "INSERT OR IGNORE INTO quarantine_order (key, value) VALUES (?, ?)"
_QUARANTINE_SQL = "INSERT OR IGNORE INTO quarantine (key, value) VALUES (?, ?)"
#: The key of a row of the order is a time of 14 digits and the id.
_DELETE_SQL = (
    "DELETE FROM quarantine WHERE key = ?",
    "DELETE FROM quarantine_order WHERE substr(key, 15) = ?",
)
_SIZE_SQL = "SELECT LENGTH(value) FROM quarantine WHERE key = ?"
_SUM_SQL = "SELECT COUNT(*), COALESCE(SUM(LENGTH(value)), 0) FROM quarantine"
_SCAN_SQL = "SELECT key, value FROM quarantine_order WHERE key > ? ORDER BY key LIMIT 100"
_PAGE_SQL = (
    "SELECT o.key, o.value, LENGTH(q.value) FROM quarantine_order AS o "
    "JOIN quarantine AS q ON q.key = substr(o.key, 15) "
    "WHERE o.key < ? ORDER BY o.key DESC LIMIT ?"
)
_FIND_SQL = "SELECT value FROM quarantine_order WHERE substr(key, 15) = ?"
_ITEM_SQL = "SELECT value FROM quarantine WHERE key = ?"

_LAST_POSITION = "g"  # after every hexadecimal digit


class SqliteQuarantine:
    """Safe to use from any thread. Every ``until`` is a time of ``time.monotonic()``."""

    def __init__(self, state: State, reader: Reader, master: SqliteMasterState) -> None:
        self._state = state
        self._reader = reader
        self._master = master
        self._computed: QuarantineSize | None = None

    def save(self, lease: Lease, items: Sequence[Quarantined], until: float) -> None:
        with self._state.writing(until):
            self._master.check_lease(lease)
            records, size = self.measure()
            statements: list[Statement] = []
            for item in {item.id: item for item in items}.values():
                if self._measure_item(item.id) is not None:
                    continue
                pair = item.record.pair
                header = [item.id, item.slave, item.at, item.reason, pair.timestamp, pair.hash]
                key, value = f"{max(item.at, 0):014x}{item.id}", pack_value(item.record)
                statements.append((_ORDER_SQL, (key, json.dumps(header).encode())))
                statements.append((_QUARANTINE_SQL, (item.id, value)))
                records, size = records + 1, size + len(value)
            if statements:
                self._state.commit({("store", "quarantine"): [records, size]}, until, statements)

    def delete(self, lease: Lease, id_: str, until: float) -> bool:
        with self._state.writing(until):
            self._master.check_lease(lease)
            size = self._measure_item(id_)
            if size is None:
                return False
            records, total = self.measure()
            statements: list[Statement] = [(sql, (id_,)) for sql in _DELETE_SQL]
            rest = [records - 1, total - size]
            self._state.commit({("store", "quarantine"): rest}, until, statements)
            return True

    def measure(self) -> QuarantineSize:
        """Return the size; it is computed once, after an update from a release that saved none."""
        saved = self._state.values["store"].get("quarantine")
        if saved is not None:
            return QuarantineSize(*saved)
        if self._computed is None:
            ((records, size),) = self._query(_SUM_SQL)
            self._computed = QuarantineSize(records, size)
        return self._computed

    def _measure_item(self, id_: str) -> int | None:
        rows = self._query(_SIZE_SQL, (id_,))
        return int(rows[0][0]) if rows else None

    def list_page(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        rows = self._query(_PAGE_SQL, (_LAST_POSITION if before is None else before, limit))
        return [_decode_entry(key, header, size) for key, header, size in rows]

    def find(self, id_: str) -> Quarantined | None:
        headers = self._query(_FIND_SQL, (id_,))
        return next((item for (header,) in headers for item in self._read(header)), None)

    def iterate(self) -> Iterator[Quarantined]:
        after = ""
        while rows := self._query(_SCAN_SQL, (after,)):
            for key, header in rows:
                after = key.decode()
                yield from self._read(header)

    def _read(self, header: bytes) -> Iterator[Quarantined]:
        try:
            id_, slave, at, reason, timestamp, hash_ = json.loads(header)
            for (value,) in self._query(_ITEM_SQL, (id_,)):
                record = unpack_value(Pair(timestamp, hash_), value)
                yield Quarantined(id_, slave, at, reason, record)
        except (ValueError, TypeError) as error:
            raise _explain(error) from error

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._reader.query(STATE_NAME, sql, values)
        except FileDamaged as error:
            raise _explain(error) from error


def _decode_entry(key: bytes, header: bytes, size: int) -> QuarantineEntry:
    try:
        id_, slave, at, reason, timestamp, hash_ = json.loads(header)
    except (ValueError, TypeError) as error:
        raise _explain(error) from error
    pair = Pair(timestamp, hash_)
    return QuarantineEntry(key.decode(), id_, slave, at, reason, pair, size)


def _explain(error: Exception) -> StoreDamaged:
    return StoreDamaged(f"the quarantine cannot be read: {error}")
