"""The files of a SQLite store: their names, their attributes, and their errors.

::

    <folder>/lock                      held by the one process that writes
    <folder>/pid                       the pid of that process
    <folder>/state.sqlite3             identity, generation, marks, the master's state, the files
    <folder>/<hour>.<number>.sqlite3   the records of one hour, by their timestamps
    <folder>/restoring                 while a backup is being restored, no node opens the store

``hour`` is the number of hours since the Unix epoch in ten digits. One hour has several files if a
file was damaged or grew too large.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from portable_core.errors import StoreError
from portable_core.ports import Milliseconds

HOUR_MS = 3_600_000

STATE_NAME = "state.sqlite3"
LOCK_NAME = "lock"
PID_NAME = "pid"

#: A file in a folder to which a backup is being restored.
RESTORING_NAME = "restoring"
RESTORING_ADVICE = "a restore of this store is not complete. Run webhook-sync restore again."

#: The first place in the order of arrival. A file of an older version has fewer rows than this.
FIRST_PLACE = 2**32

#: The coarsest resolution of a file system's times, in nanoseconds.
TICK_NS = 2_000_000_000

#: Suffixes of the files that SQLite creates beside a database: the write-ahead log and its index.
COMPANIONS = ("-wal", "-shm")

_NAME = re.compile(r"(\d{10})\.(\d{1,6})\.sqlite3")

#: SQLite's primary result codes for a file with invalid content, and the extended ones for a disk
#: that cannot read the file (https://sqlite.org/rescode.html).
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_DAMAGE_EXTENDED = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}


#: The extended result codes for a sync that failed.
_SYNC_CODES = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


#: The beginning of the loss of a file whose remaining records may be others than before.
OTHER_FILE = "it is another file than before"


class SyncFailed(StoreError):
    """The disk failed to make a write durable. The kernel may have dropped that write.

    What is written to the file afterwards might stand behind a hole, so nothing may be.
    """


class FileDamaged(Exception):
    """A data file cannot be read, and a retry would not help. Never leaves this package."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Extent:
    """The content of a data file: its highest rowid, its first and its last key, its records.

    Rowids grow with each row. Those of an older version are the numbers of the rows within their
    file; the others are places (``places.py``). ``count`` is None while it is unknown.

    ``tail`` is the key of the row with the highest rowid; empty if an older version saved the
    extent. Rows are only added, so a file that has this key at this rowid has all rows before it,
    whatever its inode is: see :meth:`Reader.has_grown_from`.
    """

    rows: int = 0
    first: bytes = b""
    last: bytes = b""
    count: int | None = 0
    tail: bytes = field(default=b"", compare=False)

    def extend(self, rows: Sequence[tuple[int, str]]) -> Extent:
        """Return the extent after these rows (rowid, key), in order, were added."""
        keys = [key.encode() for _, key in rows]
        return Extent(
            rows[-1][0],
            min(keys) if not self.first else min(self.first, *keys),
            max(self.last, *keys),
            None if self.count is None else self.count + len(keys),
            keys[-1],
        )


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file as the store knows it.

    - ``extent``: the part of the file that readers may see: every complete batch, nothing of a
      batch that is being written.
    - ``damage``: the reason why the file is skipped; empty for a readable one.
    - ``fingerprint``: its state on disk, to detect a change: of a damaged file, when the damage was
      noticed; of a closed file, when it was closed (inode, size, mtime). Empty for the others.
    - ``in_transition``: the file is being created or removed right now.
    - ``loss``: which records have disappeared from the file. The others are still read; nothing is
      added to a file with a loss.
    - ``log``: the salts of the write-ahead log that has records of the file (``logs.py``).
    - ``sealed``: a sync of the file failed. Its extent is final: what comes after it may not be
      durable.
    """

    hour: int
    number: int
    inode: int = 0
    extent: Extent = Extent()
    damage: str = ""
    fingerprint: tuple[int, ...] = ()
    in_transition: bool = False
    loss: str = ""
    sealed: bool = False
    log: tuple[int, ...] = ()

    def with_extent(self, extent: Extent) -> DataFile:
        """Return the file with another extent, at a fifth of the cost of ``replace``."""
        return DataFile(
            self.hour,
            self.number,
            self.inode,
            extent,
            self.damage,
            self.fingerprint,
            self.in_transition,
            self.loss,
            self.sealed,
            self.log,
        )

    @property
    def name(self) -> str:
        return format_name(self.hour, self.number)

    @property
    def start(self) -> Milliseconds:
        return self.hour * HOUR_MS

    @property
    def end(self) -> Milliseconds:
        return self.start + HOUR_MS

    @property
    def readable(self) -> bool:
        return not self.damage and not self.in_transition

    @property
    def writable(self) -> bool:
        return self.readable and not self.loss and not self.sealed

    @property
    def is_other(self) -> bool:
        return self.loss.startswith(OTHER_FILE)

    @property
    def is_missing(self) -> bool:
        return bool(self.damage) and not self.fingerprint

    @property
    def closed(self) -> bool:
        """Whether the file is complete without a write-ahead log, and known down to its mtime."""
        return self.writable and bool(self.fingerprint)


@lru_cache(maxsize=64)  # an append needs the name of its file several times
def format_name(hour: int, number: int) -> str:
    return f"{hour:010d}.{number}.sqlite3"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return ``(hour, number)``, or None for a file that is not a data file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    hour, number = int(match[1]), int(match[2])
    return (hour, number) if format_name(hour, number) == name else None


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a store's folder.

    - ``inodes``: those of the data files, by name.
    - ``logs``: the names of the files beside which there is a write-ahead log, empty or not.
    - ``set_aside``: the names of damaged states.
    """

    inodes: dict[str, int]
    logs: set[str]
    set_aside: tuple[str, ...]


def list_files(folder: Path) -> Listing:
    """List the folder, without reading any file. Raise ``StoreError``."""
    inodes: dict[str, int] = {}
    logs: set[str] = set()
    set_aside: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".sqlite3"):
                    inodes[name] = entry.inode()
                elif name.endswith("-wal"):
                    logs.add(name.removesuffix("-wal"))
                elif ".damaged-" in name and not name.endswith("-shm"):
                    set_aside.append(name)
    except OSError as error:
        raise translate_error(error, str(folder)) from error
    inodes.pop(STATE_NAME, None)
    return Listing(inodes, logs, tuple(set_aside))


def read_fingerprint(path: Path | str) -> tuple[int, ...]:
    """Return a value that changes whenever the file does; empty if the file does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def read_closed_fingerprint(path: Path | str) -> tuple[int, ...]:
    """Return the file's fingerprint, empty if there are records in its write-ahead log."""
    try:
        if os.stat(f"{path}-wal").st_size:
            return ()
    except FileNotFoundError:
        pass
    except OSError:
        return ()
    return read_fingerprint(path)


def is_recent(mtime_ns: int) -> bool:
    """Return whether a change now might leave this mtime as it is, or nearly so.

    File systems have times of their own resolution: some milliseconds, and two seconds at most.
    """
    return abs(time.time_ns() - mtime_ns) <= TICK_NS


def measure_size(path: Path) -> int:
    """Return the bytes of a database and its write-ahead log; 0 if neither exists."""
    size = 0
    for suffix in ("", "-wal"):
        try:
            size += os.stat(f"{path}{suffix}").st_size
        except OSError:
            continue
    return size


def remove_database(path: Path) -> None:
    """Remove a database and its companion files, as far as they exist."""
    for suffix in ("", *COMPANIONS):
        try:
            os.unlink(f"{path}{suffix}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise translate_error(error, path.name) from error


def sync_folder(folder: Path) -> None:
    """Make the creation and removal of files in the folder durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise translate_error(error, str(folder)) from error


def explain_damage(error: Exception, path: Path) -> str | None:
    """Return why the file counts as damaged after this error; None if it does not."""
    if not isinstance(error, sqlite3.Error):
        return None
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if code in _DAMAGE_CODES or extended in _DAMAGE_EXTENDED:
        return str(error)
    if code == sqlite3.SQLITE_CANTOPEN:
        # SQLite reports too many open files by the same code; that is no damage
        if not path.exists():
            return "the file is missing"
        if not path.is_file() or not os.access(path, os.R_OK):
            return "the file cannot be opened"
    if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
        return "the file is not of this store"
    return None


def is_sync_error(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", 0) in _SYNC_CODES


def translate_error(error: Exception, name: str) -> StoreError:
    """Return the ``StoreError`` for an error of SQLite, sqlitedict or the operating system."""
    if is_sync_error(error):
        return SyncFailed(f"{name}: the disk failed to make a write durable. Check the disk.")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"{name}: the disk is full. Free some space; the store then continues.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{name}: another program holds a lock on this file. End that program.")
    if code == sqlite3.SQLITE_READONLY or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(f"{name}: this process may not write here. Correct the permissions.")
    if code == sqlite3.SQLITE_CANTOPEN or number in (errno.EMFILE, errno.ENFILE):
        return StoreError(f"{name}: cannot be opened ({error}). Raise the limit of open files.")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{name}: {error}. Check the disk's free space and health.")
    return StoreError(f"{name}: {error}")
