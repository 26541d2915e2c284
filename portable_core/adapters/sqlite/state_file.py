"""``state.sqlite3`` itself: one table of small JSON values, all of them kept in memory too, and the
tables of the quarantine (``master_state.py``), which are not."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portable_core.adapters.sqlite.files import (
    COMPANIONS,
    STATE_NAME,
    FileDamaged,
    translate_error,
)
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.writer import Statement, Writer
from portable_core.errors import StoreDamaged, StoreError

logger = logging.getLogger(__name__)

_VERSION = 1
_TABLES = ("state", "quarantine", "quarantine_order")
_SECTIONS = ("store", "mark", "slave", "file")

#: What the section of the store has in any whole state.
_IDENTITY = {"uuid", "algorithm", "generation", "witness"}

_READ_SQL = "SELECT key, value FROM state"
_SAVE_SQL = "REPLACE INTO state (key, value) VALUES (?, ?)"
_DELETE_SQL = "DELETE FROM state WHERE key = ?"

#: The write-ahead log is used again from its beginning once it has so many pages, of 4 KiB: it has
#: to fit into what a disk filled with records leaves (``store.py``).
_LOG_PAGES = 100

#: Changes of a write: by section and name, None to delete.
Changes = Mapping[tuple[str, str], object]


class StateFile:
    """Safe to use from any thread. All ``until`` are moments of ``time.monotonic()``."""

    def __init__(
        self, folder: Path, reader: Reader, clock: Callable[[], float], *, read_only: bool = False
    ) -> None:
        self.read_only = read_only
        self.folder = folder
        self.path = folder / STATE_NAME
        self._reader = reader
        self.clock = clock
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self.inode = 0
        self.values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}

    # -- reading -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Read everything but the quarantine. Raises ``FileDamaged``, ``StoreDamaged``."""
        values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        try:
            for key, value in self._reader.query(STATE_NAME, _READ_SQL):
                section, _, name = key.decode().partition(":")
                values[section][name] = json.loads(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamaged(f"{self.path} cannot be understood: {error!r}") from error
        if values["store"] and not values["store"].keys() >= _IDENTITY:
            raise StoreDamaged(f"{self.path} has no identity")
        self.values = values

    def check_integrity(self) -> bool:
        """Whether there is something to read. Raises ``FileDamaged``."""
        tables, version = self._reader.read_format(STATE_NAME)
        if tables == 0:
            return False  # making it was interrupted
        if version > _VERSION:
            raise StoreError(f"{self.path} was made by a newer version of this program; use that")
        for (verdict,) in self._reader.query(STATE_NAME, "PRAGMA quick_check(1)"):
            if verdict != b"ok":
                raise FileDamaged(STATE_NAME, verdict.decode(errors="replace"))
        return True

    def set_aside(self, error: Exception) -> None:
        logger.error("%s: %s; it is set aside, the store gets a new identity", self.folder, error)
        self._reader.forget(STATE_NAME)
        aside = f"{self.path}.damaged-{int(self.clock() * 1000)}"
        try:
            for suffix in ("", *COMPANIONS):
                if os.path.exists(f"{self.path}{suffix}"):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        except OSError as failed:
            raise translate_error(failed, STATE_NAME) from failed

    def connect(self, until: float) -> None:
        """Open the file for writing, making it if it is not there."""
        self._start_writer(until)
        self.inode = self.read_inode()

    def _start_writer(self, until: float) -> None:
        self._writer = Writer(self.path, _TABLES, _VERSION)
        try:
            self._writer.open(until)
            self._writer.query(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}", until)
        except FileDamaged as error:
            raise StoreDamaged(f"{error}; restart to set the file aside") from error

    def read_inode(self) -> int:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise translate_error(error, STATE_NAME) from error

    def close(self, until: float) -> None:
        self._reader.forget(STATE_NAME)
        if self._writer is not None:
            self._writer.close(until)

    @property
    def ended(self) -> bool:
        """Whether nothing that was asked of this state can still be written."""
        return self._writer is None or self._writer.ended

    @property
    def needs_recovery(self) -> bool:
        """Whether the last write failed, so that the next one has to begin anew."""
        return self._writer is not None and self._writer.abandoned

    # -- writing -----------------------------------------------------------------------------------

    @contextmanager
    def writing(self, until: float) -> Iterator[None]:
        """Hold the lock, with a connection that works and values that are what the file says."""
        if not self._lock.acquire(timeout=max(until - time.monotonic(), 0.001)):
            raise StoreError("the store's state is still being written; try again")
        try:
            if self._writer is None:
                raise StoreError("the store is not open for writing; open it first")
            self.check_file()
            if self._writer.abandoned:
                self._recover(until)
            yield
        finally:
            self._lock.release()

    def check_file(self) -> None:
        """Raise ``StoreError`` if the file that is written is no longer the one in the folder."""
        if self.read_inode() != self.inode:
            raise StoreError(
                f"{self.path} was removed or replaced while it was in use; restart this process"
            )

    def _recover(self, until: float) -> None:
        """After a failed write: once it cannot happen any more, see whether it did."""
        if not self.ended:
            raise StoreError(f"{STATE_NAME}: the disk has not finished an earlier write; try again")
        self._start_writer(until)
        try:
            self.load()
        except (StoreError, FileDamaged) as error:
            self.close(until)
            raise StoreDamaged(f"{error}; restart to set the file aside") from error

    def commit(self, changes: Changes, until: float, more: Sequence[Statement] = ()) -> None:
        texts = {place: json.dumps(value).encode() for place, value in changes.items()}
        statements: list[Statement] = [
            (_DELETE_SQL, (f"{section}:{name}",))
            if value is None
            else (_SAVE_SQL, (f"{section}:{name}", texts[section, name]))
            for (section, name), value in changes.items()
        ]
        assert self._writer is not None  # noqa: S101 -- for the type checker
        try:
            self._writer.commit([*statements, *more], until)
        except FileDamaged as error:
            raise StoreDamaged(f"{error}; restart to set the file aside") from error
        for (section, name), text in texts.items():
            if text == b"null":
                self.values[section].pop(name, None)
            else:
                self.values[section][name] = json.loads(text)  # a copy of its own

    def touch(self, until: float) -> None:
        """Write something small, durably: proof that the store can be written."""
        with self.writing(until):
            self.commit({("store", "checked"): int(self.clock() * 1000)}, until)
