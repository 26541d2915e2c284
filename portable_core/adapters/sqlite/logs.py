"""Which write-ahead log belongs to a data file.

The header of a log has two salts (https://sqlite.org/fileformat2.html#walformat). SQLite chooses
them at random for a new log; when it reuses the log from the beginning, it increases the first one
by one. The state keeps the salts of the log of each file that is open for writing, from before the
first record until everything is moved into the file. So a log that was removed, or exchanged for
another one, is noticed at the next start.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

#: The salts of a log; empty without one.
Salts = tuple[int, ...]

_HEADER = struct.Struct(">IIIIII")
_MAGICS = (0x377F0682, 0x377F0683)

#: How often a log may be reused from the beginning between two saves of its salts.
_MOST_RESTARTS = 2**20


def read_salts(path: Path) -> Salts:
    """Return the salts in the log of a data file; empty if there is no log with a header."""
    try:
        with open(f"{path}-wal", "rb") as file:
            header = file.read(_HEADER.size)
    except OSError:
        return ()
    if len(header) < _HEADER.size:
        return ()
    magic, _, _, _, first, second = _HEADER.unpack(header)
    return (first, second) if magic in _MAGICS else ()


def is_same_log(saved: Salts, found: Salts) -> bool:
    """Return whether a log is the one whose salts were saved, perhaps reused since."""
    restarts = (found[0] - saved[0]) % 2**32
    return found == saved if restarts == 0 else restarts <= _MOST_RESTARTS


def hold_log(path: Path) -> sqlite3.Connection:
    """Return a connection that keeps the log of a data file: the last one to be closed removes it.

    Raises ``sqlite3.Error``.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
    )
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def read_log_inode(path: Path | str) -> int:
    """Return the inode of the log of a data file; 0 without one."""
    try:
        return os.stat(f"{path}-wal").st_ino
    except OSError:
        return 0
