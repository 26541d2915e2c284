"""Opening a store under the lock, closing it, and the locks of its writers."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.adapters.sqlite.arrivals import ArrivalScanner
from portable_core.adapters.sqlite.changer import Changer
from portable_core.adapters.sqlite.checker import Checker
from portable_core.adapters.sqlite.files import RESTORING_ADVICE, RESTORING_NAME
from portable_core.adapters.sqlite.folder_watch import (
    FolderState,
    read_folder_state,
    reveals_changes,
)
from portable_core.adapters.sqlite.index_files import IndexSize
from portable_core.adapters.sqlite.lock import FolderLock
from portable_core.adapters.sqlite.master_state import SqliteMasterState
from portable_core.adapters.sqlite.places import Places
from portable_core.adapters.sqlite.private_files import describe_exposure, make_folder
from portable_core.adapters.sqlite.quarantine import SqliteQuarantine
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.registry import Registry
from portable_core.adapters.sqlite.scanner import Scanner
from portable_core.adapters.sqlite.search_index import SqliteSearchIndex
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.tombstones import SqliteTombstones
from portable_core.errors import StoreError
from portable_core.ports import StoreInfo
from portable_core.records import Record

logger = logging.getLogger(__name__)

#: Limits in seconds: duration of a refresh from the folder, least time between two, and duration of
#: closing.
REFRESH_TIMEOUT_S = 2.0
REFRESH_INTERVAL_S = 1.0
_CLOSE_TIMEOUT_S = 5.0

#: The most files with which a request itself looks for changes of the folder. With more, only the
#: background does.
_MOST_FILES_LISTED = 500

#: The closed files that the background reads at a time, and the seconds between two times: 50,000
#: files within 17 minutes.
_FILES_PER_CHECK = 10
_CHECK_INTERVAL_S = 0.2

#: Parts inherited through a fork. The child process must not even close their SQLite connections.
_INHERITED: list[object] = []


class SqliteFolder:
    """The parts of one store, from :meth:`open` to :meth:`close`."""

    def __init__(
        self,
        path: str | Path,
        *,
        read_only: bool,
        lock_wait_s: float,
        timeout_s: float,
        file_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._folder = Path(path)
        self._folder_name = str(self._folder)  # for every append
        self._read_only = read_only
        self._lock_wait_s = lock_wait_s
        self._timeout_s = timeout_s
        self._file_bytes = file_bytes
        self._clock = clock
        self._open_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._opened_by = 0
        self._refresh_lock = threading.Lock()
        self._refreshed_at = 0.0
        self._lock = FolderLock(self._folder)
        #: The terms of records and their version, if the store has an index for searches.
        self._indexed_by: tuple[Callable[[Record], Collection[bytes]], int] | None = None
        self._make_parts()

    def _make_parts(self) -> None:
        #: How the folder was when the lock and the state were found in it, if that reveals changes.
        self._verified: FolderState | None = None
        self._reader = Reader(self._folder)
        self._state = State(self._folder, self._reader, self._clock, read_only=self._read_only)
        self._master = SqliteMasterState(self._state)
        self._quarantine = SqliteQuarantine(self._state, self._reader, self._master)
        self._tombstones = SqliteTombstones(self._state, self._reader)
        self._registry = Registry(self._folder, self._state, self._reader)
        self._checker = Checker(self._check_files)
        self._scanner = Scanner(self._reader, self._registry, self._check_open)
        self._places = Places(self._state)
        self._arrivals = ArrivalScanner(
            self._state.files, self._reader, self._registry, self._places, self._scanner
        )
        self._appender = Changer(
            self._folder,
            self._registry,
            self._state,
            self._reader,
            self._places,
            self._file_bytes,
        )
        self._index: SqliteSearchIndex | None = None
        self._index_size = IndexSize(self._folder)
        if self._indexed_by is not None:
            self._index = index = SqliteSearchIndex(
                self._folder, self._state.files, self._reader, self._registry, *self._indexed_by
            )
            self._indexer = Checker(lambda: index.work(self._indexer.rest), "sqlite-index")

    # -- opening and closing -----------------------------------------------------------------------

    def open(self, algorithm: str) -> StoreInfo:
        with self._open_lock:
            if self._opened_by != os.getpid():
                if self._opened_by:
                    self._discard_inherited()
                with self._hold_write_lock(self._until()):
                    self._open(algorithm)
                self._opened_by = os.getpid()
            return self._make_info()

    def _discard_inherited(self) -> None:
        """After a fork, stop using the parent's connections and lock."""
        self._lock.release()  # closes this process's descriptor; the parent keeps the lock
        _INHERITED.append((self._reader, self._state, self._appender))
        self._write_lock = threading.Lock()
        self._make_parts()

    def _open(self, algorithm: str) -> None:
        if self._lock.held:
            self._close_parts()  # a disk that hung kept an earlier close from finishing
            if self._lock.held:
                raise StoreError(
                    f"{self._folder}: the disk has not finished earlier writes. Try again."
                )
        self._make_parts()
        self._check_restored()
        if self._read_only:
            self._state.open_for_reading(algorithm)
            self._registry.open(self._until)
            return
        make_folder(self._folder)
        self._lock.acquire(self._lock_wait_s)
        try:
            self._check_restored()
            self._state.open(algorithm, self._until())
            self._registry.open(self._until)
            self._appender.finish_removals(self._until())
            self._master.end_lease(self._until())
            self._merge_logs()
        except BaseException:
            self._close_parts()
            raise
        self._refreshed_at = time.monotonic()
        self._checker.start()
        if self._index is not None:
            self._indexer.start()
        if exposure := describe_exposure(self._folder):
            logger.warning(exposure)

    def _check_restored(self) -> None:
        if (self._folder / RESTORING_NAME).exists():
            raise StoreError(f"{self._folder}: {RESTORING_ADVICE}")

    def _merge_logs(self) -> None:
        try:
            self._appender.merge_logs(self._until)
        except StoreError as error:  # the records are safe in the write-ahead logs
            logger.warning("%s: not checkpointed yet: %s", self._folder, error)

    def close(self) -> None:
        with self._open_lock:
            opened_by, self._opened_by = self._opened_by, 0
            if opened_by == 0:
                return
            if opened_by != os.getpid():
                self._discard_inherited()
            elif self._read_only:
                self._reader.close()
            else:
                try:
                    with self._hold_write_lock(self._until(_CLOSE_TIMEOUT_S)):
                        self._close_parts()
                except StoreError as error:
                    logger.error("%s: not closed, the disk hangs: %s", self._folder, error)

    def _close_parts(self) -> None:
        until = self._until(_CLOSE_TIMEOUT_S)
        self._checker.stop(_CLOSE_TIMEOUT_S / 5)
        if self._index is not None:
            self._indexer.stop(_CLOSE_TIMEOUT_S / 5)
        for part in (self._appender, self._state):
            try:
                part.close(until)
            except StoreError as error:
                logger.error("%s: not closed cleanly: %s", self._folder, error)
        self._reader.close()
        if self._appender.ended and self._state.ended:
            self._lock.release()
        else:
            # A pending write may still reach the disk; until then no process may become the writer.
            logger.error(
                "%s: the disk hangs; the lock is kept until the disk responds", self._folder
            )

    # -- for every method --------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._opened_by != os.getpid():
            if self._opened_by:
                raise StoreError("the store was opened before a fork. Open it in the worker.")
            raise StoreError("the store is not open. Open it first.")

    def _until(self, seconds: float | None = None) -> float:
        return time.monotonic() + (self._timeout_s if seconds is None else seconds)

    @contextmanager
    def _hold_write_lock(self, until: float) -> Iterator[None]:
        if not self._write_lock.acquire(timeout=max(until - time.monotonic(), 0.001)):
            raise StoreError(f"{self._folder}: an earlier write is still running. Try again.")
        try:
            yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _appending(self, until: float) -> Iterator[None]:
        """Make this thread the only one that writes records."""
        self._check_open()
        if self._read_only:
            raise StoreError("the store is open for reading only")
        with self._hold_write_lock(until):
            self._check_open()
            self._check_entries()
            self._appender.resolve_pending()
            yield

    def _check_entries(self) -> None:
        """Raise ``StoreError`` if the lock or the state was removed or replaced while in use."""
        state = read_folder_state(self._folder_name)
        if state != self._verified:
            self._lock.check()
            self._state.check_file()
            self._verified = state if reveals_changes(state) else None

    @contextmanager
    def _refreshed(self) -> Iterator[None]:
        """Refresh the registry from the folder first.

        A writer refreshes at most once a second, a read-only process on every call. A writer
        applies the changes only once they are durable in the state; if they cannot be saved, the
        registry stays as it was.
        """
        self._check_open()
        if self._read_only:
            with self._refresh_lock:
                self._state.open_for_reading("")
                self._registry.open(self._until)
                yield
            return
        if time.monotonic() - self._refreshed_at >= REFRESH_INTERVAL_S:
            self._refreshed_at = time.monotonic()
            try:
                self._registry.refresh(
                    lambda: self._until(REFRESH_TIMEOUT_S),
                    list_folder=len(self._state.files) <= _MOST_FILES_LISTED,
                )
            except StoreError as error:
                logger.warning("%s: changes in the folder not applied yet: %s", self._folder, error)
        yield

    def _check_files(self) -> float:
        """Do the next bit of the background's work; return the seconds until the one after it."""
        if len(self._state.files) > _MOST_FILES_LISTED:
            self._registry.refresh(self._until)
        for _ in range(_FILES_PER_CHECK):
            changed = self._registry.check_next()
            if changed is not None:
                with self._hold_write_lock(self._until()):
                    self._check_open()
                    self._registry.recheck(changed, self._until)
        return _CHECK_INTERVAL_S if self._state.files.total().unchecked else REFRESH_INTERVAL_S

    def _make_info(self) -> StoreInfo:
        return StoreInfo(self._state.uuid, self._state.generation, self._state.algorithm)
