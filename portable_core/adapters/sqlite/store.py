"""``sqlite:PATH``: a folder of SQLite files with one writer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from portable_core.adapters.sqlite.files import DataFile, measure_size, translate_error
from portable_core.adapters.sqlite.folder import REFRESH_INTERVAL_S, SqliteFolder
from portable_core.adapters.sqlite.retention import choose_oldest, find_gap
from portable_core.adapters.sqlite.scanner import find_first, find_last
from portable_core.errors import StoreError, StoreFull
from portable_core.ports import (
    Lease,
    Milliseconds,
    Quarantined,
    SlaveState,
    StoreInfo,
    StoreStatus,
)
from portable_core.records import MAX_INTEGER, Pair, Record

#: A file that has grown to this is followed by another one of the same hour.
FILE_BYTES = 256 * 1024 * 1024

#: Where retention by bytes asks for less, files are smaller, so that few records go at a time.
_FILES_WITHIN_LIMIT = 8
_SMALLEST_FILE = 1024 * 1024

#: With less than this, besides what records under way may take, the disk counts as full, in bytes.
#: It serves the state: with marks that can be raised and files that can be removed, a master can
#: empty a disk that records filled.
_SPARE_BYTES = 1024 * 1024

#: The bound on :meth:`SqliteStore.check`, in seconds, and how much must fit then, in bytes.
_CHECK_TIMEOUT_S = 2.0
_CHECK_BYTES = 512 * 1024

#: For so many seconds after an append failed, the store counts as unusable unless one succeeds.
_FAILURE_S = 3.0

_EVERYTHING = (0, MAX_INTEGER + 1)


class SqliteStore(SqliteFolder):
    """Store and master's state in a folder. See ``portable_core.ports`` for what it promises.

    With ``read_only`` it reads beside the process that writes, takes no lock and changes nothing;
    ``open`` takes any hash algorithm then if it is given an empty one.
    """

    shared = False

    def __init__(
        self,
        path: str | Path,
        *,
        read_only: bool = False,
        lock_wait_s: float = 2.0,
        timeout_s: float = 10.0,
        file_bytes: int = FILE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``lock_wait_s``: how long ``open`` waits for another writer. ``timeout_s``: the bound on
        everything that writes, where ``append`` has no deadline. ``clock``: seconds since the Unix
        epoch, for generations."""
        super().__init__(
            path,
            read_only=read_only,
            lock_wait_s=lock_wait_s,
            timeout_s=timeout_s,
            file_bytes=file_bytes,
            clock=clock,
        )
        #: When the store last took something.
        self._succeeded_at = 0.0
        #: Why the last append failed, if it did, and when.
        self._failure: StoreError | None = None
        self._failed_at = 0.0

    def info(self) -> StoreInfo:
        with self._refreshed():
            return self._make_info()

    # -- writing -----------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        until = self._until(deadline)
        with self._appending(until):
            self._append(records, until)

    def _append(self, records: Sequence[Record], until: float) -> None:
        self._check_spare(sum(record.size for record in records))
        self._note_failure(StoreError(f"{self._folder}: an append was interrupted"))
        try:
            self._appender.append(records, until)
        except StoreError as error:
            self._note_failure(error)
            raise
        self._failure = None
        self._succeeded_at = time.monotonic()

    def _note_failure(self, error: StoreError) -> None:
        self._failure, self._failed_at = error, time.monotonic()

    def prune(self, before: Milliseconds) -> int:
        """Remove the files of hours that ended before; returns their bytes."""
        self._check_open()
        meant = {file for file in self._registry.list_all() if file.end <= before}
        if not meant:
            return 0
        until = self._until()
        with self._appending(until):
            # Not what has become readable while this waited: no master can have asked past that.
            old = [f for f in self._registry.list_all() if f in meant and not f.in_transition]
            return self._appender.remove(old, until) if old else 0

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        """Remove the oldest files, but never the newest one, which takes what comes in now."""
        until = self._until()
        with self._appending(until):
            self._appender.file_bytes = min(
                self._file_bytes, max(limit // _FILES_WITHIN_LIMIT, _SMALLEST_FILE)
            )
            going = choose_oldest(self._folder, self._registry.list_all(), limit)
            gap = find_gap(going, asked)
            if gap is not None:
                self._state.save_gap(gap, until)
            if going:
                self._appender.remove(going, until)
            return gap

    def mark(self, name: str) -> int:
        self._check_open()
        if not self._read_only:
            return self._state.mark(name)
        with self._refreshed():
            return self._state.mark(name)

    def marks(self, prefix: str) -> dict[str, int]:
        self._check_open()
        if not self._read_only:
            return self._state.marks(prefix)
        with self._refreshed():
            return self._state.marks(prefix)

    def raise_mark(self, name: str, value: int) -> int:
        self._check_open()
        return self._state.raise_mark(name, value, self._until())

    def check(self) -> None:
        until = self._until(_CHECK_TIMEOUT_S)
        with self._appending(until):
            self._check_spare(_CHECK_BYTES)
            if self._failure is not None:
                # a probe is small: it may pass where no append does
                if time.monotonic() - self._failed_at < _FAILURE_S:
                    raise StoreError(str(self._failure)) from self._failure
                self._appender.probe(until)
        due = time.monotonic() - self._succeeded_at >= REFRESH_INTERVAL_S
        if due or self._failure is not None or self._state.needs_recovery:
            self._state.touch(until)
            self._failure = None
            self._succeeded_at = time.monotonic()
        with self._refreshed():
            pass

    def _check_spare(self, size: int = 0) -> None:
        """Raise ``StoreFull`` if the disk is too full for records of so many bytes."""
        # they are written twice: into a write-ahead log, and from there into their file
        needed = _SPARE_BYTES + self._appender.measure_logs() + 2 * size
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise translate_error(error, str(self._folder)) from error
        if disk.f_bavail * disk.f_frsize < needed:
            raise StoreFull(f"{self._folder}: the disk is full; free some space")

    # -- reading -----------------------------------------------------------------------------------

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        yield from self._scanner.pairs(self._list_files(start, end), start, end)

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        yield from self._scanner.records(self._list_files(start, end), start, end)

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        if not pairs:
            return iter(())
        times = [pair.timestamp for pair in pairs]
        return self._scanner.fetch(self._list_files(min(times), max(times) + 1), pairs)

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        return self._scanner.latest(self._list_files(0, before), before, limit)

    def first(self) -> Milliseconds | None:
        return find_first(self._list_files(*_EVERYTHING))

    def last(self) -> Milliseconds | None:
        return find_last(self._list_files(*_EVERYTHING))

    def _list_files(self, start: Milliseconds, end: Milliseconds) -> list[DataFile]:
        self._check_open()
        if not self._read_only:
            return self._registry.list_readable(start, end)
        with self._refreshed():
            return self._registry.list_readable(start, end)

    def status(self) -> StoreStatus:
        with self._refreshed():
            files = self._registry.list_all()
            damaged, gaps = self._registry.describe_damage(), self._state.gaps()
        readable = [file for file in files if file.readable and file.extent.rows]
        return StoreStatus(
            records=sum(file.extent.rows for file in readable),
            first=find_first(readable),
            last=find_last(readable),
            bytes=sum(measure_size(self._folder / file.name) for file in files),
            files=len(files),
            damaged=damaged,
            gaps=gaps,
        )

    # -- the master's state ------------------------------------------------------------------------

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        until = self._until()
        # no save under the old lease may be under way, or come to its end later
        with self._appending(until):
            return self._master.acquire_lease(holder, now, ttl, until)

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        self._check_open()
        return self._master.renew_lease(lease, now, ttl, self._until())

    def release_lease(self, lease: Lease) -> None:
        self._check_open()
        self._master.release_lease(lease, self._until())

    def slave_states(self) -> dict[str, SlaveState]:
        with self._refreshed():
            return self._master.slave_states()

    def save_slave(self, lease: Lease, name: str, state: SlaveState) -> None:
        self._check_open()
        self._master.save_slave(lease, name, state, self._until())

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        until = self._until()
        with self._appending(until):
            self._master.check_lease(lease)
            self._append(records, until)

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        self._check_open()
        self._master.save_quarantine(lease, items, self._until())

    def quarantine(self) -> Iterator[Quarantined]:
        self._check_open()
        yield from self._master.quarantine()
