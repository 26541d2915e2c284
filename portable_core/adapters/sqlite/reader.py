"""Reading data files: in order, in bounded memory, without blocking the writer.

A scan reads the state of the files at one point in time. There were two ways to implement that:

(a) note the highest rowid of each file when the scan begins, and skip rows above it;
(b) open a read transaction on every file when the scan begins.

This module does (a). A transaction would keep SQLite from reusing the write-ahead log for as long
as the slowest master reads, and it needs one connection per file, 168 for a week. With (a), each
batch is a query of its own: between two batches a scan holds no connection, no transaction and no
open file, so an abandoned scan costs nothing.

(a) requires that rowids increase with time. So the writer never moves a row and never deletes a
single row (``ON CONFLICT DO NOTHING`` only). The filter costs nothing, because the index of the
keys contains the rowids: a scan of keys reads no page of payloads.
"""

from __future__ import annotations

import binascii
import os
import sqlite3
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

from portable_core.adapters.sqlite.files import (
    DataFile,
    Extent,
    FileDamaged,
    explain_damage,
    translate_error,
)
from portable_core.adapters.sqlite.writer import BUSY_TIMEOUT_S
from portable_core.errors import StoreDamaged
from portable_core.records import Pair, parse_sort_key, unpack_value

TABLE = "unnamed"

#: Reads the extent of a file in one query. (One ``SELECT max(..), min(..)`` would read every row.)
#: It counts only the rows after a rowid.
EXTENT_SQL = (
    f"SELECT (SELECT max(rowid) FROM {TABLE}), "  # noqa: S608 -- no outside text in it
    f"(SELECT min(key) FROM {TABLE}), (SELECT max(key) FROM {TABLE}), "
    f"(SELECT count(*) FROM {TABLE} WHERE rowid > ?), "
    f"(SELECT key FROM {TABLE} ORDER BY rowid DESC LIMIT 1)"
)

_KEY_AT_SQL = f"SELECT key FROM {TABLE} WHERE rowid = ?"  # noqa: S608 -- likewise

_FORMAT_SQL = (
    "SELECT (SELECT count(*) FROM sqlite_master), (SELECT user_version FROM pragma_user_version)"
)
_KEYS_SQL = (
    f"SELECT key FROM {TABLE} WHERE key > ? AND key < ? AND rowid <= ? "  # noqa: S608 -- likewise
    "ORDER BY key LIMIT ?"
)
_LATEST_SQL = (
    # With a plus, SQLite does not read all rows after a rowid to sort them.
    f"SELECT key FROM {TABLE} WHERE key > ? AND key < ? AND +rowid > ? "  # noqa: S608 -- likewise
    "AND +rowid <= ? ORDER BY key DESC LIMIT ?"
)
_PLACES_SQL = (
    f"SELECT rowid, key, value FROM {TABLE} "  # noqa: S608 -- likewise
    "WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
)
_NEXT_SQL = f"SELECT min(rowid) FROM {TABLE} WHERE rowid > ? AND rowid <= ?"  # noqa: S608 -- likewise
_KEY_SQL = f"SELECT rowid FROM {TABLE} WHERE key = ? AND rowid <= ?"  # noqa: S608 -- likewise
_COUNT_SQL = f"SELECT count(*) FROM {TABLE}"  # noqa: S608 -- likewise
_VALUE_SQL = f"SELECT value FROM {TABLE} WHERE key = ?"  # noqa: S608 -- likewise
_ALL_SQL = f"SELECT key, value FROM {TABLE}"  # noqa: S608 -- likewise

_BATCH = 2048
_KEY_BYTES = 14  # length of a key, decoded from hexadecimal digits
_IDLE_CONNECTIONS = 8
_IMMUTABLE = "mode=ro&immutable=1"


def make_extent(row: Sequence[Any], known: Extent) -> Extent:
    """Return the extent from a row of :data:`EXTENT_SQL`, which counted the rows after ``known``.

    The count is None if there are fewer rows than known, or if their number is not known.
    """
    rows, first, last, more, tail = row
    count = None if known.count is None or (rows or 0) < known.rows else known.count + more
    return Extent(rows or 0, _to_bytes(first), _to_bytes(last), count, _to_bytes(tail))


def _to_bytes(key: str | bytes | None) -> bytes:
    return key.encode() if isinstance(key, str) else key or b""


def parse_keys(keys: Sequence[bytes]) -> Iterator[Pair]:
    """Return the pairs of many keys, at 2 million a second (``int(text, 16)`` reaches 1 million).

    Raise ``ValueError`` for an invalid key.
    """
    raw = binascii.unhexlify(b"".join(keys))
    count = len(keys)
    if len(raw) != _KEY_BYTES * count:
        raise ValueError("a key has the wrong length")
    # Both halves of a key are seven bytes long; struct reads integers of eight bytes.
    spread = bytearray(16 * count)
    for index in range(7):
        spread[1 + index :: 16] = raw[index::_KEY_BYTES]
        spread[9 + index :: 16] = raw[7 + index :: _KEY_BYTES]
    numbers = iter(struct.unpack(f">{2 * count}Q", spread))
    return map(tuple.__new__, repeat(Pair), zip(numbers, numbers, strict=True))


class Reader:
    """Read-only connections to the databases of one folder. Safe to use from any thread."""

    def __init__(self, folder: Path, *, immutable: bool = False) -> None:
        """Read as SQLite does. ``immutable``: no other process has the files open, and SQLite
        creates none beside them.
        """
        self._folder = folder
        self._options = _IMMUTABLE if immutable else "mode=ro"
        self._mutex = threading.Lock()
        self._closed = False
        #: Idle connections, the one used longest ago first, by name and inode of their file.
        self._idle: OrderedDict[sqlite3.Connection, tuple[str, int]] = OrderedDict()

    # -- connections -------------------------------------------------------------------------------

    def query(self, name: str, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of one query.

        Raise ``FileDamaged``, or ``StoreError`` for a fault that may be temporary.
        """
        with self._connection(name) as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _connection(self, name: str) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the current file; translate the errors of the ``with`` block."""
        path = self._folder / name
        connection: sqlite3.Connection | None = None
        try:
            inode = path.stat().st_ino
            connection = self._reuse(name, inode) or self._connect(path)
            yield connection
        except FileNotFoundError as error:
            raise FileDamaged(name, "the file is missing") from error
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            reason = explain_damage(error, path)
            if reason is not None:
                raise FileDamaged(name, reason) from error
            raise translate_error(error, name) from error
        except FileDamaged:
            if connection is not None:
                connection.close()
            raise
        else:
            self._keep_idle(connection, (name, inode))

    def _connect(self, path: Path, options: str = "") -> sqlite3.Connection:
        # With an empty host; otherwise a path that begins with two slashes would name a host.
        address = f"file://{quote(str(path.absolute()))}?{options or self._options}"
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        connection.text_factory = bytes
        return connection

    def _reuse(self, name: str, inode: int) -> sqlite3.Connection | None:
        with self._mutex:
            for connection in reversed(self._idle):
                if self._idle[connection] == (name, inode):
                    del self._idle[connection]
                    return connection
        return None

    def _keep_idle(self, connection: sqlite3.Connection, file: tuple[str, int]) -> None:
        with self._mutex:
            self._idle[connection] = file
            keep = 0 if self._closed else _IDLE_CONNECTIONS
            spare = [self._idle.popitem(last=False)[0] for _ in range(len(self._idle) - keep)]
        for old in spare:
            old.close()

    def forget(self, name: str) -> None:
        """Close the idle connections to this file."""
        with self._mutex:
            idle = [connection for connection, file in self._idle.items() if file[0] == name]
            for connection in idle:
                del self._idle[connection]
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections now, and each used one after its use."""
        with self._mutex:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
        for connection in idle:
            connection.close()

    # -- one file ----------------------------------------------------------------------------------

    def has_grown_from(self, name: str, saved: Extent, now: Extent) -> bool:
        """Return whether a file of the extent ``now`` is the one of ``saved``, or has grown since.

        Raise ``FileDamaged`` or ``StoreError``.
        """
        if now.rows < saved.rows or now.last < saved.last:
            return False
        if not saved.rows or not saved.tail:
            return True
        if now.rows == saved.rows:
            return now.tail == saved.tail
        return bool(self.query(name, _KEY_AT_SQL, (saved.rows,)) == [(saved.tail,)])

    def read_format(self, name: str) -> tuple[int, int]:
        """Return the number of tables and indexes, and ``user_version``.

        Both are 0 for an empty database.
        """
        (row,) = self.query(name, _FORMAT_SQL)
        return int(row[0]), int(row[1])

    def read_summary(self, name: str, version: int, known: Extent, *, alone: bool) -> Extent | None:
        """Return the extent, None for an empty database.

        ``known``: an earlier extent of the file; only the rows after it are counted. ``alone``: no
        program writes to the file, and it has no records in a write-ahead log; SQLite then creates
        no files beside it. Raise ``FileDamaged``, also for another ``user_version``.
        """
        path = self._folder / name
        try:
            with closing(self._connect(path, _IMMUTABLE if alone else "")) as connection:
                tables, found = connection.execute(_FORMAT_SQL).fetchone()
                if not tables:
                    return None
                if found != version:
                    raise FileDamaged(name, "the file belongs to another hash algorithm or program")
                row = connection.execute(EXTENT_SQL, (known.rows,)).fetchone()
                extent = make_extent(row, known)
                if extent.count is None:  # rows are missing, or an older version saved no number
                    ((count,),) = connection.execute(_COUNT_SQL)
                    extent = replace(extent, count=count)
                return extent
        except (sqlite3.Error, OSError) as error:
            reason = explain_damage(error, path)
            if reason is not None:
                raise FileDamaged(name, reason) from error
            raise translate_error(error, name) from error

    def remove_companions(self, name: str) -> None:
        """Remove the empty log and its index of 32 KiB, which reading a closed file creates.

        SQLite itself does that when its last connection is closed, if this one may write.
        """
        path = self._folder / name
        if os.path.exists(f"{path}-shm"):
            self.forget(name)
            with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
                connection.execute(_FORMAT_SQL).fetchone()

    def check_integrity(self, name: str) -> None:
        """Read all of a file, which is slow; raise ``FileDamaged`` if any part is invalid."""
        path = self._folder / name
        try:
            with closing(self._connect(path)) as connection:
                ((result,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
                if result != b"ok":
                    raise FileDamaged(name, result.decode(errors="replace"))
                for key, value in connection.execute(_ALL_SQL):
                    unpack_value(parse_sort_key(key.decode()), value)
        except sqlite3.Error as error:
            reason = explain_damage(error, path)
            if reason is not None:
                raise FileDamaged(name, reason) from error
            raise translate_error(error, name) from error
        except (StoreDamaged, ValueError, AttributeError) as error:
            raise FileDamaged(name, str(error)) from error

    def scan_keys(self, file: DataFile, after: str, stop: str) -> Iterator[list[bytes]]:
        """Return the keys in ``(after, stop)`` within the file's extent, in order, in batches."""
        while True:
            rows = self.query(file.name, _KEYS_SQL, (after, stop, file.extent.rows, _BATCH))
            if not rows:
                return
            keys = [key for (key,) in rows]
            try:
                if len(binascii.unhexlify(b"".join(keys))) != _KEY_BYTES * len(keys):
                    raise ValueError("a key has the wrong length")
            except (TypeError, ValueError) as error:
                raise FileDamaged(file.name, f"a key is damaged: {error}") from error
            yield keys
            if len(keys) < _BATCH:
                return
            after = keys[-1].decode("ascii", "replace")

    def read_values(self, name: str, keys: Sequence[bytes], max_bytes: int) -> list[bytes | None]:
        """Return the values of the first keys, with None for a missing key.

        Return at least one value, and stop after the value that reaches ``max_bytes``.
        """
        values: list[bytes | None] = []
        with self._connection(name) as connection:
            for key in keys:
                row = connection.execute(_VALUE_SQL, (key.decode(),)).fetchone()
                value = None if row is None else row[0]
                if row is not None and not isinstance(value, bytes):
                    raise FileDamaged(name, "a value is not bytes")
                values.append(value)
                max_bytes -= len(value or b"")
                if max_bytes <= 0:
                    break
        return values

    def read_places(
        self, file: DataFile, after: int, upto: int, max_bytes: int
    ) -> list[tuple[int, bytes, bytes]]:
        """Return place, key and value of the rows in ``(after, upto]``, within the file's extent.

        Stop after the row that reaches ``max_bytes``.
        """
        rows: list[tuple[int, bytes, bytes]] = []
        with self._connection(file.name) as connection:
            for row in connection.execute(_PLACES_SQL, (after, min(upto, file.extent.rows))):
                if not isinstance(row[1], bytes) or not isinstance(row[2], bytes):
                    raise FileDamaged(file.name, "a key or a value is not bytes")
                rows.append(row)
                max_bytes -= len(row[2])
                if max_bytes <= 0:
                    break
        return rows

    def find_place(self, file: DataFile, after: int) -> int | None:
        """Return the first rowid after this one within the file's extent; None without one."""
        ((place,),) = self.query(file.name, _NEXT_SQL, (after, file.extent.rows))
        return None if place is None else int(place)

    def find_key(self, file: DataFile, key: bytes) -> int | None:
        """Return the rowid of a key within the file's extent; None without one."""
        rows = self.query(file.name, _KEY_SQL, (key.decode(), file.extent.rows))
        return int(rows[0][0]) if rows else None

    def read_latest(
        self, file: DataFile, stop: str, limit: int, after: str = "", rows_after: int = 0
    ) -> list[bytes]:
        """Return the last keys in ``(after, stop)`` within the file's extent, newest first.

        Only those of the rows after the rowid ``rows_after``.
        """
        values = (after, stop, rows_after, file.extent.rows, limit)
        rows = self.query(file.name, _LATEST_SQL, values)
        return [key for (key,) in rows]
