"""The index of a store for searches: entries beside the data files, made in the background.

Appending records does nothing for it: a thread reads the rows that were added, the newest file
first, in a small part of its time. The entries of a file that may still grow are in memory; once
the file is closed they become an index file in the folder :data:`FOLDER`, which may be removed at
any time and is then made again. Rows that are not indexed yet are candidates of every search.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path

from portable_core.adapters.sqlite.files import HOUR_MS, DataFile, Extent, FileDamaged
from portable_core.adapters.sqlite.index_entries import (
    Counts,
    Entries,
    IndexFile,
    Run,
    add_count,
    find_packed,
    pack_pair,
    split_entries,
    unpack_pair,
    write_index,
)
from portable_core.adapters.sqlite.index_files import FOLDER, find_index_path
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.adapters.sqlite.reader import Reader, parse_keys
from portable_core.adapters.sqlite.registry import Registry
from portable_core.errors import StoreDamaged, StoreError
from portable_core.ports import Candidates, Milliseconds, SourceVolume
from portable_core.records import (
    Pair,
    Record,
    format_sort_key,
    format_sort_key_floor,
    parse_sort_key,
    unpack_value,
)

logger = logging.getLogger(__name__)

#: Bytes of records that are indexed at a time, and entries that are merged at a time; the thread
#: then rests, so that it works for this part of the time only.
_SLICE_BYTES = 64 * 1024
_SLICE_ENTRIES = 2048
_DUTY = 0.03

#: Runs are merged until one has so many records.
_RUN_RECORDS = 4096

#: Seconds between two looks at the files that are written, and at all files.
_LOOK_S = 1.0
_LOOK_AT_ALL_S = 3600.0

#: Free bytes below which no index file is written, and seconds until the next attempt.
_SPARE_BYTES = 64 * 1024 * 1024
_RETRY_S = 60.0

#: The most data files, and entries, that one call of :meth:`SqliteSearchIndex.find` reads.
_MOST_FILES = 2000
_MOST_ENTRIES = 2_000_000

#: Seconds for which saving a damage may delay a search.
_NOTE_DAMAGE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Part:
    """The entries in memory of one file: those of its rows after the index file, if it has one.

    ``rows`` is the highest rowid that is indexed, and ``tail`` its key.
    """

    rows: int = 0
    tail: bytes = b""
    base: bool = False
    runs: tuple[Run, ...] = ()
    counts: Counts = field(default_factory=Counter)


class SqliteSearchIndex:
    """The index of one open store. Safe to use from any thread."""

    def __init__(
        self,
        folder: Path,
        files: KnownFiles,
        reader: Reader,
        registry: Registry,
        terms: Callable[[Record], Collection[bytes]],
        version: int,
    ) -> None:
        self._store = folder
        self._folder = folder / FOLDER
        self._files = files
        self._reader = reader
        self._registry = registry
        self._terms = terms
        self._version = version
        self._parts: dict[str, _Part] = {}
        #: Names of files to look at, the newest last.
        self._queue: list[str] = []
        self._look_at = self._look_at_all = self._write_at = 0.0
        self._working = threading.Lock()

    # -- indexing ----------------------------------------------------------------------------------

    def work(self, rest: Callable[[float], object] = time.sleep) -> float:
        """Do the next bit of the work; return the seconds to wait. ``rest`` waits within it."""
        begun = time.monotonic()
        with self._working:
            file = self._choose(begun)
            if file is None:
                return _LOOK_S
            self._advance(file, rest)
        return (time.monotonic() - begun) * (1 / _DUTY - 1)

    def finish(self) -> None:
        """Index all records now."""
        with self._working:
            self._look_at = self._look_at_all = 0.0
            while (file := self._choose(time.monotonic())) is not None:
                self._advance(file, lambda seconds: None)
                self._look_at = 0.0

    def _choose(self, now: float) -> DataFile | None:
        """Return the next file with work to do: one that is written first, then the newest."""
        if now >= self._look_at:
            names = {*self._parts, *(file.name for file in self._files.list_others())}
            for name in sorted(names, reverse=True):
                file = self._find_work(name)
                if file is not None:
                    return file
            self._look_at = now + _LOOK_S
        if now >= self._look_at_all:
            self._look_at_all = now + _LOOK_AT_ALL_S
            self._queue = [file.name for file in self._files.list_all()]
            self._sweep()
        while self._queue:
            file = self._find_work(self._queue[-1])
            if file is not None:
                return file
            self._queue.pop()
        return None

    def _find_work(self, name: str) -> DataFile | None:
        """Return the file if it has work to do; forget what is in memory of it if not needed."""
        file = self._files.get(name)
        if file is None or not file.readable or not file.extent.rows:
            self._parts.pop(name, None)
            return None
        try:
            part = self._load(file)
        except FileDamaged as error:
            self._note_damage(error)
            return None
        if part.rows < file.extent.rows:
            return file
        if not part.runs:
            self._parts.pop(name, None)
            return None
        may_grow = file.writable and not file.closed
        return None if may_grow or time.monotonic() < self._write_at else file

    def _load(self, file: DataFile) -> _Part:
        """Return the entries in memory of a file; those of a file that was replaced are dropped."""
        part = self._parts.get(file.name)
        if part is not None and self._covers(file, part.rows, part.tail):
            return part
        part = _Part()
        with self._open(file) as base:
            if base is not None:
                part = _Part(base.rows, base.tail, True, (), base.counts())
        return part

    def _advance(self, file: DataFile, rest: Callable[[float], object]) -> None:
        try:
            part = self._load(file)
            if part.rows < file.extent.rows:
                self._parts[file.name] = self._index_rows(file, part)
            else:
                self._save(file, part, rest)
        except FileDamaged as error:
            self._note_damage(error)

    def _index_rows(self, file: DataFile, part: _Part) -> _Part:
        rows = self._reader.read_places(file, part.rows, file.extent.rows, _SLICE_BYTES)
        if not rows:
            return replace(part, rows=file.extent.rows, tail=file.extent.tail)
        entries: list[bytes] = []
        counts = part.counts.copy()
        for _, key, value in rows:
            try:
                record = unpack_value(parse_sort_key(key.decode()), value)
            except (StoreDamaged, ValueError):
                continue  # the file counts as damaged once this record is read
            if record.erased is not None:
                continue
            packed = pack_pair(file.hour, record.pair)
            entries += [term + packed for term in self._terms(record)]
            add_count(counts, record.meta.source, recovered=record.recovery is not None)
        runs, run = list(part.runs), Run(entries, len(rows))
        while runs and runs[-1].records <= 2 * run.records <= _RUN_RECORDS:
            last = runs.pop()
            blocks = (last.read(0, len(last)), run.read(0, len(run)))
            merged = [entry for block in blocks for entry in split_entries(block)]
            run = Run(merged, last.records + run.records)
        place, key, _ = rows[-1]
        return replace(part, rows=place, tail=key, runs=(*runs, run), counts=counts)

    def _save(self, file: DataFile, part: _Part, rest: Callable[[float], object]) -> None:
        """Write the index file of a file that does not grow."""
        try:
            disk = os.statvfs(self._store)
            if disk.f_bavail * disk.f_frsize < _SPARE_BYTES:
                raise StoreError("the disk is nearly full")
            with self._open(file) as base:
                if part.base and base is None:
                    self._parts.pop(file.name, None)  # removed from outside: index all rows again
                    return
                parts: list[Iterator[bytes]] = [
                    iter(split_entries(run.read(0, len(run)))) for run in part.runs
                ]
                if base is not None and part.base:
                    parts.append(base.list_all())
                blocks = _join(heapq.merge(*parts), rest)
                path = find_index_path(self._store, file.name)
                write_index(path, self._version, part.rows, part.tail, part.counts, blocks)
            self._parts.pop(file.name, None)
        except (StoreError, OSError) as error:
            self._write_at = time.monotonic() + _RETRY_S
            logger.warning("%s: no index for searches is saved: %s", self._store, error)

    def _sweep(self) -> None:
        """Remove the index files of files that are gone."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                if self._files.get(f"{path.stem}.sqlite3") is None:
                    path.unlink(missing_ok=True)

    # -- searching ---------------------------------------------------------------------------------

    @contextmanager
    def _open(self, file: DataFile) -> Iterator[IndexFile | None]:
        """Yield the index file of a file; None without a valid one."""
        found: IndexFile | None = None
        try:
            found = IndexFile(find_index_path(self._store, file.name))
        except (OSError, ValueError):
            yield None
            return
        try:
            same = found.version == self._version and self._covers(file, found.rows, found.tail)
            yield found if same else None
        finally:
            found.close()

    def _covers(self, file: DataFile, rows: int, tail: bytes) -> bool:
        """Return whether the file has this key at this rowid: what was indexed is still in it."""
        extent = file.extent
        if not rows or rows > extent.rows:
            return False
        if rows == extent.rows:
            return not extent.tail or tail == extent.tail
        return self._reader.has_grown_from(file.name, Extent(rows, tail=tail), extent)

    def find(
        self,
        files: Sequence[DataFile],
        terms: Collection[bytes],
        start: Milliseconds,
        before: Pair,
        limit: int,
    ) -> Candidates:
        """Return the candidates in these files; see :class:`portable_core.ports.SearchIndex`."""
        pairs: list[Pair] = []
        read = cost = 0
        hour: int | None = None
        for hour_, group in groupby(reversed(files), key=lambda file: file.hour):
            if hour is not None and (read >= _MOST_FILES or cost >= _MOST_ENTRIES):
                return Candidates(pairs, Pair(hour * HOUR_MS, 0))
            hour = hour_
            found: set[Pair] = set()
            for file in group:
                read += 1
                try:
                    some, spent = self._find_in(file, terms, start, before, limit - len(pairs))
                except FileDamaged as error:
                    self._note_damage(error)
                    continue
                found.update(some)
                cost += spent
            pairs += sorted(found, reverse=True)
            if len(pairs) >= limit:
                return Candidates(pairs[:limit], pairs[limit - 1])
        return Candidates(pairs, None)

    def _find_in(
        self,
        file: DataFile,
        terms: Collection[bytes],
        start: Milliseconds,
        before: Pair,
        limit: int,
    ) -> tuple[list[Pair], int]:
        low, high = pack_pair(file.hour, Pair(start, 0)), pack_pair(file.hour, before)
        packed: list[bytes] = []
        cost = 0
        part = self._parts.get(file.name)
        now = self._files.get(file.name)  # it has the rows that were indexed meanwhile
        if now is None or not now.readable:
            return [], 0
        file = now
        with self._open_all(file, part) as (entries, covered):
            for each in entries:
                some, spent = find_packed(each, terms, low, high, limit)
                packed += some
                cost += spent
        pairs = [unpack_pair(file.hour, each) for each in packed]
        if covered < file.extent.rows:
            floor, stop = format_sort_key_floor(start), format_sort_key(before)
            keys = self._reader.read_latest(file, stop, limit, floor, covered)
            pairs += parse_keys(keys)
            cost += len(keys)
        return pairs, cost

    @contextmanager
    def _open_all(self, file: DataFile, part: _Part | None) -> Iterator[tuple[list[Entries], int]]:
        """Yield the entries of a file, and the highest rowid that they cover."""
        if part is not None and not self._covers(file, part.rows, part.tail):
            part = None
        if part is not None and not part.base:
            yield list(part.runs), part.rows
            return
        with self._open(file) as base:
            if base is None:
                yield [], 0
            elif part is None:
                yield [base], base.rows
            else:
                yield [base, *part.runs], part.rows

    def volumes(
        self, files: Sequence[DataFile]
    ) -> Mapping[Milliseconds, Mapping[str, SourceVolume]]:
        """Return the records by hour and source; see :class:`portable_core.ports.SearchIndex`."""
        volumes: dict[Milliseconds, Mapping[str, SourceVolume]] = {}
        for hour, group in groupby(files, key=lambda file: file.hour):
            total: Counts = Counter()
            for file in group:
                total.update(self._count(file))
            volumes[hour * HOUR_MS] = {
                source: SourceVolume(total[source, False], total[source, True])
                for source in {source for source, _ in total}
            }
        return volumes

    def _count(self, file: DataFile) -> Counts:
        part = self._parts.get(file.name)
        if part is not None:
            return part.counts
        try:
            with self._open(file) as base:
                return Counter() if base is None else base.counts()
        except FileDamaged as error:
            self._note_damage(error)
            return Counter()

    def _note_damage(self, error: FileDamaged) -> None:
        self._registry.note_damage(error, time.monotonic() + _NOTE_DAMAGE_S)


def _join(entries: Iterator[bytes], rest: Callable[[float], object]) -> Iterator[bytes]:
    """Yield the entries in blocks, with a rest after each."""
    while True:
        begun = time.monotonic()
        block = b"".join(islice(entries, _SLICE_ENTRIES))
        if not block:
            return
        yield block
        rest((time.monotonic() - begun) * (1 / _DUTY - 1))
