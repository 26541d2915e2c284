"""``sqlite:PATH``: a folder of SQLite files with one writer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from portable_core.adapters.sqlite.files import HOUR_MS, translate_error
from portable_core.adapters.sqlite.folder import REFRESH_INTERVAL_S
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.adapters.sqlite.master_methods import SqliteMasterMethods
from portable_core.adapters.sqlite.packed_files import FileList
from portable_core.adapters.sqlite.retention import choose_oldest, find_gap, measure_file
from portable_core.adapters.sqlite.scanner import find_first, find_last
from portable_core.errors import StoreError, StoreFull
from portable_core.listeners import Listeners
from portable_core.ports import (
    BEGINNING,
    GAP_REASON,
    Arrival,
    Damage,
    Lease,
    Milliseconds,
    Quarantined,
    StoreInfo,
    StoreStatus,
)
from portable_core.records import MAX_INTEGER, Pair, Record, format_sort_key_floor

#: Once a file has this size, the next records of its hour go into another file.
FILE_BYTES = 256 * 1024 * 1024

#: Retention by bytes begins a new file after fewer bytes, to remove fewer records at a time: after
#: its limit divided by the first number, but never after fewer bytes than the second.
_FILES_WITHIN_LIMIT = 8
_SMALLEST_FILE = 1024 * 1024

#: Free bytes below which the disk counts as full, beside the bytes of records that are being
#: written. They are reserved for the state: as long as marks can be raised and files removed, a
#: master can empty a disk that records filled.
_SPARE_BYTES = 1024 * 1024

#: With so many spare bytes a disk cannot be full within ``_AMPLE_S``. (Each look at it releases
#: Python's lock, which a busy event loop does not give back at once.)
_AMPLE_BYTES = 1024**3
_AMPLE_S = 0.1

#: The time limit of :meth:`SqliteStore.check`, in seconds, and the bytes that must fit on the disk.
_CHECK_TIMEOUT_S = 2.0
_CHECK_BYTES = 512 * 1024

#: Seconds for which the store counts as unusable after a failed append, unless one succeeds.
_FAILURE_S = 3.0

#: How many records :meth:`SqliteStore.remove_after` copies at a time.
_KEPT_RECORDS = 500

_Read = TypeVar("_Read")


class SqliteStore(SqliteMasterMethods):
    """Store and master's state in a folder. ``portable_core.ports`` defines the contract.

    With ``read_only`` the store reads while another process writes; it acquires no lock and changes
    nothing. ``open`` then accepts any hash algorithm if its argument is empty.
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
        """Make an unopened store.

        - ``lock_wait_s``: how long ``open`` waits for another writer.
        - ``timeout_s``: the time limit of every write, and of ``append`` without a deadline.
        - ``clock``: seconds since the Unix epoch, for generations.
        """
        super().__init__(
            path,
            read_only=read_only,
            lock_wait_s=lock_wait_s,
            timeout_s=timeout_s,
            file_bytes=file_bytes,
            clock=clock,
        )
        self._listeners = Listeners()
        #: The time of the last write that succeeded.
        self._succeeded_at = 0.0
        #: The time up to which the disk has ample space.
        self._ample_until = 0.0
        #: The error and the time of the last append, if it failed.
        self._failure: StoreError | None = None
        self._interrupted = StoreError(f"{self._folder}: an append was interrupted")
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
        if time.monotonic() >= self._ample_until:
            self._check_spare(sum(record.size for record in records))
        self._note_failure(self._interrupted)
        try:
            self._appender.append(records, until)
        except StoreError as error:
            self._note_failure(error)
            raise
        finally:
            self._listeners.notify()
        self._failure = None
        self._succeeded_at = time.monotonic()

    def _note_failure(self, error: StoreError) -> None:
        self._failure, self._failed_at = error, time.monotonic()

    def prune(self, before: Milliseconds) -> int:
        """Remove the files of hours that ended at or before ``before``; return their bytes."""
        self._check_open()
        last_hour = before // HOUR_MS - 1
        candidates = {(file.name, file.damage) for file in self._state.files.list_all(0, last_hour)}
        if not candidates:
            return 0
        until = self._until()
        with self._appending(until):
            # A file that became readable during the wait is kept: no master has asked past it yet.
            files = self._state.files.list_all(0, last_hour)
            old = [
                file
                for file in files
                if (file.name, file.damage) in candidates and not file.in_transition
            ]
            return self._appender.remove(old, until) if old else 0

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        """Remove the oldest files, never the newest one, to which current records are written."""
        until = self._until()
        with self._appending(until):
            self._appender.file_bytes = min(
                self._file_bytes, max(limit // _FILES_WITHIN_LIMIT, _SMALLEST_FILE)
            )
            oldest = choose_oldest(self._folder, self._state.files, limit)
            gap = find_gap(oldest, asked)
            if gap is not None:
                self._state.save_gap(gap, until)
            if oldest:
                self._appender.remove(oldest, until)
            return gap

    def find_cut(self, at: Milliseconds) -> Milliseconds:
        return at

    def remove_after(self, cut: Milliseconds) -> None:
        """Keep the earlier records of the hour of ``cut`` in another file; retire the old files.

        No row is removed singly, because running scans rely on that. For them the old files stay on
        the disk until the store is opened the next time.
        """
        floor = format_sort_key_floor(cut).encode()
        with self._appending(self._until()):
            hour = cut // HOUR_MS
            files = self._state.files.list_readable(hour * HOUR_MS, MAX_INTEGER + 1)
            old = [file for file in files if file.extent.last > floor]
            split = [file for file in old if file.start < cut]
            if any(file.extent.first < floor for file in split):
                self._appender.begin_file(hour, {file.name for file in split}, self._until())
                kept = self._scanner.records(split, hour * HOUR_MS, cut, erased=True)
                while batch := list(islice(kept, _KEPT_RECORDS)):
                    self._append(batch, self._until())
            if old:
                self._appender.retire(old, self._until())

    def begin_generation(self) -> None:
        until = self._until()
        with self._appending(until):
            self._state.save_files({}, until, new_generation=True)

    def losses(self) -> list[Damage]:
        with self._refreshed():
            gaps = [Damage("gap", GAP_REASON, *gap) for gap in self._state.gaps()]
            return [*self._registry.describe_damage(), *self._state.removed_damage(), *gaps]

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

    def set_mark(self, name: str, value: int) -> None:
        self._check_open()
        self._state.set_mark(name, value, self._until())

    def check(self) -> None:
        until = self._until(_CHECK_TIMEOUT_S)
        with self._appending(until):
            self._check_spare(_CHECK_BYTES)
            if self._failure is not None:
                # A probe is small and may succeed where an append fails, so the failure counts.
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
        """Raise ``StoreFull`` if the disk is too full for records of ``size`` bytes."""
        # Records are written twice: into a write-ahead log, and from there into their file.
        needed = _SPARE_BYTES + self._appender.measure_logs() + 2 * size
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise translate_error(error, str(self._folder)) from error
        spare = disk.f_bavail * disk.f_frsize - needed
        if spare < 0:
            raise StoreFull(f"{self._folder}: the disk is full. Free some space.")
        if spare > _AMPLE_BYTES:
            self._ample_until = time.monotonic() + _AMPLE_S

    # -- reading -----------------------------------------------------------------------------------

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        yield from self._scanner.pairs(self._list_files(start, end), start, end)

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        yield from self._scanner.records(self._list_files(start, end), start, end)

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        hours = {pair.timestamp // HOUR_MS for pair in pairs}

        def list_hours(files: KnownFiles) -> dict[int, FileList]:
            return {
                hour: files.list_readable(hour * HOUR_MS, (hour + 1) * HOUR_MS) for hour in hours
            }

        return self._scanner.fetch(self._read_files(list_hours), pairs)

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        return self._scanner.latest(self._list_files(0, before), before, limit)

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        self._check_arrivals()
        return self._arrivals.scan(after)

    def find_earlier(self, position: str, count: int) -> str:
        self._check_arrivals()
        return self._places.find_earlier(position, count)

    def newest_arrival(self) -> str:
        self._check_arrivals()
        return self._arrivals.find_newest()

    def _check_arrivals(self) -> None:
        self._check_open()
        if self._read_only:
            # A reader of the files of another process sees no batch as a whole.
            raise StoreError("only the process that writes the store knows the order of arrival")

    def on_arrival(self, notify: Callable[[], object]) -> Callable[[], None]:
        return self._listeners.add(notify)

    def first(self) -> Milliseconds | None:
        return find_first(self._read_files(KnownFiles.list_first_hour))

    def last(self) -> Milliseconds | None:
        return find_last(self._read_files(KnownFiles.list_last_hour))

    def _list_files(self, start: Milliseconds, end: Milliseconds) -> FileList:
        return self._read_files(lambda files: files.list_readable(start, end))

    def _read_files(self, read: Callable[[KnownFiles], _Read]) -> _Read:
        self._check_open()
        if not self._read_only:
            return read(self._state.files)
        with self._refreshed():
            return read(self._state.files)

    def status(self) -> StoreStatus:
        with self._refreshed():
            files = self._state.files
            totals, first, last = files.total(), files.list_first_hour(), files.list_last_hour()
            damaged, gaps = self._registry.describe_damage(), self._state.gaps()
            quarantine = self._quarantine.measure()
        readable = [file for file in totals.others if file.readable]
        size = sum(measure_file(self._folder, file) for file in totals.others)
        return StoreStatus(
            records=totals.records + sum(file.extent.count or 0 for file in readable),
            first=find_first(first),
            last=find_last(last),
            bytes=totals.bytes + size + self._index_size.read() + quarantine.bytes,
            files=totals.closed + len(totals.others),
            damaged=damaged,
            gaps=gaps,
            unchecked=totals.unchecked,
            quarantine=quarantine,
        )

    # -- writing under a lease --------------------------------------------------------------------

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        until = self._until()
        with self._appending(until):
            self._master.check_lease(lease)
            self._append(records, until)

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        self._check_open()
        self._check_spare(sum(item.record.size for item in items))
        self._quarantine.save(lease, items, self._until())
