"""Reading many files as one: every pair once, in order, without the damaged files."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from portable_core.adapters.sqlite.files import HOUR_MS, DataFile, FileDamaged
from portable_core.adapters.sqlite.reader import Reader, parse_keys
from portable_core.adapters.sqlite.registry import Registry
from portable_core.errors import StoreDamaged
from portable_core.ports import Milliseconds
from portable_core.records import (
    Pair,
    Record,
    format_sort_key,
    format_sort_key_floor,
    pack_value,
    parse_sort_key,
    unpack_value,
)

#: The approximate bytes of records in memory at a time.
_BATCH_BYTES = 1024 * 1024

#: Seconds for which saving a damage may delay a scan.
_NOTE_DAMAGE_S = 2.0


class Scanner:
    """Reads lists of files, each a snapshot of the registry. Safe to use from any thread."""

    def __init__(self, reader: Reader, registry: Registry, check_open: Callable[[], None]) -> None:
        """Make a scanner. Before each batch it calls ``check_open``, which raises to end a scan."""
        self._reader = reader
        self._registry = registry
        self._check_open = check_open

    def pairs(
        self, files: Sequence[DataFile], start: Milliseconds, end: Milliseconds
    ) -> Iterator[Pair]:
        for _, keys in self._scan(files, start, end):
            yield from parse_keys(keys)

    def records(
        self,
        files: Sequence[DataFile],
        start: Milliseconds,
        end: Milliseconds,
        *,
        erased: bool = False,
    ) -> Iterator[Record]:
        """Yield the records; with ``erased``, those that were erased too."""
        for holders, keys in self._scan(files, start, end):
            found = self._read(holders, keys)
            yield from (record for record in found if erased or record.erased is None)

    def holds(self, file: DataFile, pair: Pair) -> bool:
        """Return whether a file has a record of this pair that is not erased."""
        key = format_sort_key(pair).encode()
        return any(r is not None and r.erased is None for r in self._read_file(file, [key]))

    def _scan(
        self, files: Sequence[DataFile], start: Milliseconds, end: Milliseconds
    ) -> Iterator[tuple[list[DataFile], list[bytes]]]:
        """Return batches of keys in order, each with the files that contain them."""
        after, stop = format_bounds(start, end)
        for _, same_hour in groupby(files, key=lambda file: file.hour):
            for group in group_overlapping(list(same_hour)):
                scans = [(file.extent.first, self._scan_file(file, after, stop)) for file in group]
                batches = scans[0][1] if len(scans) == 1 else merge_batches(scans)
                for keys in batches:
                    yield group, keys

    def _scan_file(self, file: DataFile, after: str, stop: str) -> Iterator[list[bytes]]:
        try:
            for keys in self._reader.scan_keys(file, after, stop):
                self._check_open()
                yield keys
        except FileDamaged as error:
            self._note_damage(error)

    def fetch(
        self, files: Mapping[int, Sequence[DataFile]], pairs: Sequence[Pair]
    ) -> Iterator[Record]:
        """Read the records of these pairs from the files of their hours."""
        for hour, same_hour in groupby(pairs, key=lambda pair: pair.timestamp // HOUR_MS):
            keys = [format_sort_key(pair).encode() for pair in same_hour]
            yield from (r for r in self._read(files[hour], keys) if r.erased is None)

    def _read(self, files: Sequence[DataFile], keys: Sequence[bytes]) -> Iterator[Record]:
        """Return the records of these keys, in their order; skip removed and damaged records."""

        def choose(key: bytes) -> tuple[DataFile, ...]:
            return tuple(file for file in files if file.extent.first <= key <= file.extent.last)

        for holders, run in groupby(keys, key=choose):
            if len(holders) == 1:
                yield from self._read_run(holders[0], list(run))
            else:
                for key in run:
                    yield from self._read_any(holders, key)

    def _read_run(self, file: DataFile, keys: Sequence[bytes]) -> Iterator[Record]:
        while keys:
            records = self._read_file(file, keys)
            yield from (record for record in records if record is not None)
            keys = keys[len(records) :]

    def _read_any(self, files: Sequence[DataFile], key: bytes) -> Iterator[Record]:
        for file in files:
            (record,) = self._read_file(file, [key])
            if record is not None:
                yield record
                return

    def _read_file(self, file: DataFile, keys: Sequence[bytes]) -> list[Record | None]:
        """Return the records of the first keys, with None for a missing one."""
        try:
            values = self._reader.read_values(file.name, keys, _BATCH_BYTES)
            return [
                None if value is None else unpack_value(parse_sort_key(key.decode()), value)
                for key, value in zip(keys, values, strict=False)
            ]
        except FileDamaged as error:
            self._note_damage(error)
        except StoreDamaged as error:
            self._note_damage(FileDamaged(file.name, str(error)))
        return [None] * len(keys)

    def latest(self, files: Sequence[DataFile], before: Milliseconds, limit: int) -> list[Pair]:
        stop = format_bounds(0, before)[1]
        latest: list[Pair] = []
        for _, same_hour in groupby(reversed(files), key=lambda file: file.hour):
            if len(latest) >= limit:
                break
            keys: set[bytes] = set()
            for file in same_hour:
                try:
                    keys.update(self._reader.read_latest(file, stop, limit))
                except FileDamaged as error:
                    self._note_damage(error)
            latest += parse_keys(sorted(keys, reverse=True)[: limit - len(latest)])
        return latest

    def _note_damage(self, error: FileDamaged) -> None:
        self._registry.note_damage(error, time.monotonic() + _NOTE_DAMAGE_S)


def make_erased_row(pair: Pair, at: Milliseconds) -> tuple[str, bytes]:
    """Return the key and the value of the row of a record that was erased at this time."""
    return format_sort_key(pair), pack_value(Record(pair, b"", erased=at))


def format_bounds(start: int, end: int) -> tuple[str, str]:
    """Return ``(after, stop)`` for keys with ``start <= timestamp < end``.

    Both are shorter than a key. So neither equals a key, and every key of the same millisecond
    sorts after it.
    """
    return format_sort_key_floor(start), format_sort_key_floor(end)


def group_overlapping(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Group files so that every key of one group sorts before every key of the next."""
    group: list[DataFile] = []
    last = b""
    for file in sorted(files, key=lambda file: file.extent.first):
        if group and file.extent.first > last:
            yield group
            group, last = [], b""
        group.append(file)
        last = max(last, file.extent.last)
    if group:
        yield group


def merge_batches(scans: Sequence[tuple[bytes, Iterator[list[bytes]]]]) -> Iterator[list[bytes]]:
    """Merge several ordered scans into one with each key once.

    Each scan comes with its smallest possible key, in the order of these keys. A scan is started
    only when the merge reaches that key, so memory grows only with the number of scans that
    overlap.
    """
    waiting = list(scans)
    heads: list[tuple[list[bytes], Iterator[list[bytes]]]] = []
    while waiting or heads:
        while waiting and (not heads or waiting[0][0] <= min(batch[-1] for batch, _ in heads)):
            _, scan = waiting.pop(0)
            first_batch = next(scan, None)
            if first_batch:
                heads.append((first_batch, scan))
        if not heads:
            continue
        limit = min(batch[-1] for batch, _ in heads)
        merged: set[bytes] = set()
        remaining: list[tuple[list[bytes], Iterator[list[bytes]]]] = []
        for batch, scan in heads:
            cut = bisect_right(batch, limit)
            merged.update(batch[:cut])
            head: list[bytes] | None = batch[cut:] or next(scan, None)
            if head:
                remaining.append((head, scan))
        heads = remaining
        yield sorted(merged)


def find_first(files: Sequence[DataFile]) -> Milliseconds | None:
    """Return the smallest timestamp in files that are ordered by hour and not empty."""
    keys = [file.extent.first for file in files if file.hour == files[0].hour]
    return parse_sort_key(min(keys).decode()).timestamp if keys else None


def find_last(files: Sequence[DataFile]) -> Milliseconds | None:
    """Return the largest timestamp in files that are ordered by hour and not empty."""
    keys = [file.extent.last for file in files if file.hour == files[-1].hour]
    return parse_sort_key(max(keys).decode()).timestamp if keys else None
