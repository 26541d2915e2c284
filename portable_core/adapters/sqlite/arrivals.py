"""Reading records in the order of their arrival, from many files."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from portable_core.adapters.sqlite.files import FIRST_PLACE, DataFile, FileDamaged
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.adapters.sqlite.places import Places, Start, format_older
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.registry import Registry
from portable_core.adapters.sqlite.scanner import Scanner
from portable_core.errors import StoreDamaged
from portable_core.ports import BEGINNING, Arrival
from portable_core.records import MAX_INTEGER, Pair, Record, parse_sort_key, unpack_value

#: The approximate bytes of records in memory at a time.
_BATCH_BYTES = 256 * 1024

#: Seconds for which saving a damage may delay a scan.
_NOTE_DAMAGE_S = 2.0


class ArrivalScanner:
    """Reads snapshots of the registry in the order of places. Safe to use from any thread."""

    def __init__(
        self,
        files: KnownFiles,
        reader: Reader,
        registry: Registry,
        places: Places,
        scanner: Scanner,
    ) -> None:
        self._files = files
        self._reader = reader
        self._registry = registry
        self._places = places
        self._scanner = scanner
        #: The first rowid of a file, and its first place, by name and inode; neither changes.
        self._edges: dict[tuple[str, int], tuple[int, int]] = {}

    def find_newest(self) -> str:
        """Return the position after the newest record."""
        newest = self._files.find_newest_row()
        if newest >= FIRST_PLACE:
            return self._places.format(newest)
        pairs = self._scanner.latest(self._files.list_all(), MAX_INTEGER + 1, 1)
        return format_older(pairs[0]) if pairs else BEGINNING

    def scan(self, after: str) -> Iterator[Arrival]:
        """Yield the records after a position, as a snapshot."""
        start = self._places.parse(after)
        chosen = self._files.list_after(start.place)
        if not start.place and self._places.has_older:
            yield from self._scan_older(start, chosen)
        yield from self._scan_places(max(start.place, FIRST_PLACE - 1), chosen)

    def _scan_older(self, start: Start, files: Sequence[DataFile]) -> Iterator[Arrival]:
        """Yield the records of an older version."""
        after = start.pair or Pair(0, -1)
        older = [
            replace(file, extent=replace(file.extent, rows=min(file.extent.rows, FIRST_PLACE - 1)))
            for file in sorted(files, key=lambda file: (file.hour, file.number))
            if file.end > after.timestamp and self._has_older(file)
        ]
        for record in self._scanner.records(older, after.timestamp, MAX_INTEGER + 1):
            if record.pair > after:
                yield Arrival(format_older(record.pair), record)

    def _scan_places(self, after: int, files: Sequence[DataFile]) -> Iterator[Arrival]:
        heads = [
            (place, file.hour, file.number, file)
            for file in files
            if (place := self._find_next(file, after)) is not None
        ]
        heapq.heapify(heads)
        while heads:
            place, _, _, file = heapq.heappop(heads)
            # An older version in between may have used a place in several files.
            again = bool(heads) and heads[0][0] == place
            upto = max(heads[0][0] - 1, place) if heads else file.extent.rows
            rows = self._read(file, place - 1, upto)
            others = self._list_others(file) if rows else []
            for found, key, value in rows:
                place = found
                if self._is_first(others, key, file, found):
                    record = self._unpack(file, key, value)
                    if record is not None:
                        yield Arrival(self._places.format(found - again), record)
            later = self._find_next(file, place)
            if later is not None:
                heapq.heappush(heads, (later, file.hour, file.number, file))

    def _list_others(self, file: DataFile) -> list[DataFile]:
        """Return the other readable files of the hour: a record may be in several of them."""
        return [
            other
            for other in self._files.list_hour(file.hour)
            if other.readable and other.extent.rows and other.number != file.number
        ]

    def _is_first(self, others: Sequence[DataFile], key: bytes, file: DataFile, place: int) -> bool:
        """Return whether no other file has the record at an earlier place.

        Of two files that have it at the same place, the one with the lower number counts.
        """
        for other in others:
            if other.extent.first <= key <= other.extent.last:
                try:
                    found = self._reader.find_key(other, key)
                except FileDamaged as error:
                    self._note_damage(error)
                    continue
                if found is not None and (found, other.number) < (place, file.number):
                    return False
        return True

    def _unpack(self, file: DataFile, key: bytes, value: bytes) -> Record | None:
        """Return a row's record; None if the row is damaged or the record was erased."""
        try:
            record = unpack_value(parse_sort_key(key.decode()), value)
            return record if record.erased is None else None
        except (StoreDamaged, ValueError) as error:
            self._note_damage(FileDamaged(file.name, str(error)))
            return None

    def _read(self, file: DataFile, after: int, upto: int) -> list[tuple[int, bytes, bytes]]:
        try:
            return self._reader.read_places(file, after, upto, _BATCH_BYTES)
        except FileDamaged as error:
            self._note_damage(error)
            return []

    def _find_next(self, file: DataFile, after: int) -> int | None:
        """Return the first place of a file after this one; None without one."""
        if file.extent.rows <= after:
            return None
        first = self._find_edges(file)[1]
        if after < first:
            return first
        try:
            return self._reader.find_place(file, after)
        except FileDamaged as error:
            self._note_damage(error)
            return None

    def _has_older(self, file: DataFile) -> bool:
        return file.extent.rows < FIRST_PLACE or self._find_edges(file)[0] < FIRST_PLACE

    def _find_edges(self, file: DataFile) -> tuple[int, int]:
        """Return the first rowid of a file with rows, and its first place."""
        known = self._edges.get((file.name, file.inode))
        if known is not None:
            return known
        whole = replace(file, extent=replace(file.extent, rows=2**63 - 1))
        try:
            first = self._reader.find_place(whole, 0) or 0
            place = first
            if first < FIRST_PLACE:
                place = self._reader.find_place(whole, FIRST_PLACE - 1) or 0
        except FileDamaged as error:
            self._note_damage(error)
            return 2**63, 2**63
        if not place:
            return first, 2**63  # not kept: the first place is still to come
        self._edges[file.name, file.inode] = first, place
        return first, place

    def _note_damage(self, error: FileDamaged) -> None:
        self._registry.note_damage(error, time.monotonic() + _NOTE_DAMAGE_S)
