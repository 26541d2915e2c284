"""The file ``state.sqlite3``.

It has one table of small JSON values, which are also kept in memory, except those of the data files
(``known_files.py``); and the tables of the quarantine and of the tombstones.
"""

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

from portable_core.adapters.sqlite.file_rows import decode_file
from portable_core.adapters.sqlite.files import (
    COMPANIONS,
    STATE_NAME,
    DataFile,
    FileDamaged,
    translate_error,
)
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.writer import Statement, Writer
from portable_core.errors import StoreDamaged, StoreError

logger = logging.getLogger(__name__)

_VERSION = 1
_TABLES = ("state", "quarantine", "quarantine_order", "tombstones")
_SECTIONS = ("store", "mark", "slave")

#: The section of the data files, which may be many.
FILES = "file"

#: Names in the section ``store`` of every complete state.
_IDENTITY = {"uuid", "algorithm", "generation"}

_READ_SQL = f"SELECT key, value FROM state WHERE key < '{FILES}:' OR key >= '{FILES};'"  # noqa: S608 -- ours
_READ_FILES_SQL = (
    f"SELECT key, value FROM state WHERE key > ? AND key < '{FILES};' "  # noqa: S608 -- ours
    "ORDER BY key LIMIT 1000"
)
_SAVE_SQL = "REPLACE INTO state (key, value) VALUES (?, ?)"
_DELETE_SQL = "DELETE FROM state WHERE key = ?"

#: Pages of 4 KiB after which the write-ahead log is reused from its beginning. The log must fit
#: into the space that is left on a disk filled with records (``store.py``).
_LOG_PAGES = 100

#: The changes of one commit: values by section and name, None to delete one.
Changes = Mapping[tuple[str, str], object]


class StateFile:
    """The state file and its values. Safe to use from any thread.

    Every ``until`` is a time of ``time.monotonic()``.
    """

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
        """Read the values that are kept in memory. Raise ``FileDamaged`` or ``StoreDamaged``."""
        values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        try:
            for key, value in self._reader.query(STATE_NAME, _READ_SQL):
                section, _, name = key.decode().partition(":")
                values[section][name] = json.loads(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamaged(f"{self.path} contains an invalid value: {error!r}") from error
        if values["store"] and not values["store"].keys() >= _IDENTITY:
            raise StoreDamaged(f"{self.path} has no identity")
        self.values = values

    def read_files(self) -> Iterator[DataFile]:
        """Yield the data files as they are saved. Raise ``StoreDamaged`` or ``StoreError``."""
        after = f"{FILES}:"
        try:
            while rows := self._reader.query(STATE_NAME, _READ_FILES_SQL, (after,)):
                for key, value in rows:
                    after = key.decode()
                    yield decode_file(after.removeprefix(f"{FILES}:"), value)
        except (FileDamaged, ValueError) as error:
            raise StoreDamaged(f"{self.path} contains an invalid value: {error}") from error

    def check_integrity(self) -> bool:
        """Return whether the file contains a state. Raise ``FileDamaged``."""
        tables, version = self._reader.read_format(STATE_NAME)
        if tables == 0:
            return False  # its creation was interrupted
        if version > _VERSION:
            raise StoreError(f"{self.path} was created by a newer version. Use that version.")
        for (result,) in self._reader.query(STATE_NAME, "PRAGMA quick_check(1)"):
            if result != b"ok":
                raise FileDamaged(STATE_NAME, result.decode(errors="replace"))
        return True

    def set_aside(self, error: Exception) -> None:
        """Rename the damaged file, so that a new state, with a new identity, can be created."""
        logger.error(
            "%s: %s. The file is set aside; the store gets a new identity.", self.folder, error
        )
        self._reader.forget(STATE_NAME)
        aside = f"{self.path}.damaged-{int(self.clock() * 1000)}"
        try:
            for suffix in ("", *COMPANIONS):
                if os.path.exists(f"{self.path}{suffix}"):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        except OSError as failed:
            raise translate_error(failed, STATE_NAME) from failed

    def connect(self, until: float) -> None:
        """Open the file for writing; create it if it does not exist."""
        self._start_writer(until)
        self.inode = self.read_inode()

    def _start_writer(self, until: float) -> None:
        self._writer = Writer(self.path, _TABLES, _VERSION)
        try:
            self._writer.open(until)
            self._writer.query(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}", until)
            self._writer.query("PRAGMA secure_delete=ON", until)  # for records in quarantine
        except FileDamaged as error:
            raise StoreDamaged(f"{error}. Restart to set the file aside.") from error

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
        """Whether no write of this process can still reach the file."""
        return self._writer is None or self._writer.ended

    @property
    def needs_recovery(self) -> bool:
        """Whether the last write failed, so that the next one needs a new connection."""
        return self._writer is not None and self._writer.abandoned

    # -- writing -----------------------------------------------------------------------------------

    @contextmanager
    def writing(self, until: float) -> Iterator[None]:
        """Hold the lock, with a working connection and values that agree with the file."""
        if not self._lock.acquire(timeout=max(until - time.monotonic(), 0.001)):
            raise StoreError("the store's state is still being written. Try again.")
        try:
            if self._writer is None:
                raise StoreError("the store is not open for writing. Open it first.")
            self.check_file()
            if self._writer.sync_failed:
                raise StoreError(
                    f"{STATE_NAME}: the disk failed to make a write durable, and later ones might "
                    "stand behind a hole. Check the disk, and restart this process."
                )
            if self._writer.abandoned:
                self._recover(until)
            yield
        finally:
            self._lock.release()

    def check_file(self) -> None:
        """Raise ``StoreError`` if the open file is no longer the one in the folder."""
        if self.read_inode() != self.inode:
            raise StoreError(
                f"{self.path} was removed or replaced while in use. Restart this process."
            )

    def _recover(self, until: float) -> None:
        """Reconnect after a failed write and read its outcome, once that can no longer change."""
        if not self.ended:
            raise StoreError(
                f"{STATE_NAME}: the disk has not finished an earlier write. Try again."
            )
        self._start_writer(until)
        try:
            self.load()
        except (StoreError, FileDamaged) as error:
            self.close(until)
            raise StoreDamaged(f"{error}. Restart to set the file aside.") from error

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
            raise StoreDamaged(f"{error}. Restart to set the file aside.") from error
        for (section, name), text in texts.items():
            if section == FILES:
                continue
            if text == b"null":
                self.values[section].pop(name, None)
            else:
                self.values[section][name] = json.loads(text)  # a copy of its own

    def touch(self, until: float) -> None:
        """Write a small value durably, as proof that the store can be written."""
        with self.writing(until):
            self.commit({("store", "checked"): int(self.clock() * 1000)}, until)
