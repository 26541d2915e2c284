"""What retention on a master asks for: the oldest record after a position, and a cut for a size.

A sum over a range of ``key`` would need a composite index. So the sum is that of all sizes, and the
oldest segments are read one by one. What was read once is remembered, because retention asks the
same every minute while a slave or a consumer keeps records that are due.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from portable_core.adapters.firestore.arrivals import (
    Position,
    list_writers,
    parse_imported,
    parse_older,
    parse_position,
    scan_imported,
)
from portable_core.adapters.firestore.client import read_elapsed
from portable_core.adapters.firestore.documents import SEGMENTS
from portable_core.adapters.firestore.former import PAGES
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.scans import (
    FEW_SEGMENTS,
    Source,
    read_entries_of,
    read_first,
    read_newest,
)
from portable_core.adapters.firestore.segments import PAIR_FIELDS
from portable_core.adapters.firestore.writers import (
    HOUR_MS,
    end_of_writer,
    format_place,
    is_imported,
    parse_place,
)
from portable_core.ports import BEGINNING, Milliseconds
from portable_core.records import Pair

#: The digits of a time at the beginning of ``key``.
_TIME_DIGITS = 14

#: Keys in one request.
_REQUEST_KEYS = 300

#: Seconds for which a cut is remembered, unless something was removed.
_CUT_S = 3600.0


@dataclass(slots=True)
class _Seen:
    """The segments of one writer with ``start <= number < end``.

    ``hours``: by hour, the last number of a segment with records of that hour.
    """

    start: int
    end: int
    hours: dict[Milliseconds, int] = field(default_factory=dict)


class _Cut(NamedTuple):
    first: Milliseconds
    at: Milliseconds
    found: float


class RetentionReader:
    """The reads of retention on a master. Safe to use from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._database = source.database
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._cuts: dict[tuple[int, Milliseconds], _Cut] = {}

    def find_first_after(self, position: str) -> Milliseconds | None:
        """Return the start of an hour that none of the records after a position lies before.

        Read the key of each segment after the position once.
        """
        imported, older = parse_imported(position), parse_older(position)
        first = read_first(self._source)
        if first is None or position == BEGINNING:
            return first
        if imported is not None:
            rest = (self._find_first_imported(imported), self._find_first_of_all(Pair(0, -1)))
            return min((each for each in rest if each is not None), default=None)
        if older is not None:
            return self._find_first_of_all(older)
        parsed = parse_position(position)
        with self._lock:
            self._forget_before(_floor_hour(first))
            found = (
                self._find_in_writer(writer, collection, parsed)
                for writer, collection in list_writers(self._source, parsed.since)
            )
            return min((hour for hour in found if hour is not None), default=None)

    def _find_first_imported(self, after: Pair) -> Milliseconds | None:
        """Return the first timestamp of the first imported segment with a pair after another."""
        for segment in scan_imported(self._source, after.timestamp, FEW_SEGMENTS):
            entries = read_entries_of(segment)
            if entries[-1].pair > after:
                return entries[0].timestamp
        return None

    def _find_first_of_all(self, older: Pair) -> Milliseconds | None:
        """Return the first timestamp of all records that were not imported.

        Leave out the pages that have no place and are read.
        """
        firsts = []
        query = RangeQuery(SEGMENTS, "key", fields=(*PAIR_FIELDS, "place"))
        for segment in self._database.scan(query, FEW_SEGMENTS):
            if not is_imported(segment.fields["place"].string_value):
                firsts.append(read_entries_of(segment)[0].timestamp)
                break
        for page in self._database.scan(RangeQuery(PAGES, "key"), _REQUEST_KEYS):
            entries = read_entries_of(page)
            if "place" in page.fields or entries[-1].pair > older:
                firsts.append(entries[0].timestamp)
                break
        return min(firsts, default=None)

    def _find_in_writer(
        self, writer: str, collection: str, position: Position
    ) -> Milliseconds | None:
        number, read = position.parts.get(writer, (0, 0))
        low = number if read else number + 1
        seen = self._seen.get((writer, collection))
        if seen is None or low < seen.start:
            seen = self._seen[writer, collection] = _Seen(low, low)
        place = format_place(writer, seen.end)
        query = RangeQuery(
            collection, "place", place, end_of_writer(writer), fields=("place", "key")
        )
        for document in self._database.scan(query, _REQUEST_KEYS):
            _, found = parse_place(document.fields["place"].string_value)
            seen.hours[_read_hour(document)] = found
            seen.end = found + 1
        return min((hour for hour, last in seen.hours.items() if last >= low), default=None)

    def _forget_before(self, first_hour: Milliseconds) -> None:
        """Forget the hours that were removed, and the writers without any other."""
        for seen in self._seen.values():
            seen.hours = {hour: last for hour, last in seen.hours.items() if hour >= first_hour}
        self._seen = {key: seen for key, seen in self._seen.items() if seen.hours}

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        """Return the end of the last hour to remove.

        The size is that of payloads and metadata, not compressed. Read the sum of all sizes, and if
        it is more than ``limit``, the sizes of the oldest segments.
        """
        first, newest = read_first(self._source), read_newest(self._source)
        if first is None or newest is None:
            return 0
        before = min(_floor_hour(before), _floor_hour(newest) + HOUR_MS)
        end = min(before, _floor_hour(newest))
        total = self._sum_sizes()
        if first >= end or total <= limit:
            return 0
        with self._lock:
            cut = self._cuts.get((limit, before))
        if cut is None or cut.first != first or read_elapsed() - cut.found >= _CUT_S:
            rest = total if before > end else None
            cut = _Cut(first, self._find_cut(limit, end, rest), read_elapsed())
            with self._lock:
                self._cuts = {(limit, before): cut}
        return cut.at

    def _sum_sizes(self) -> int:
        collections = (SEGMENTS, PAGES) if self._source.former else (SEGMENTS,)
        return sum(self._database.sum(collection, "bytes") for collection in collections)

    def _find_cut(self, limit: int, end: Milliseconds, rest: int | None) -> Milliseconds:
        """Return the cut in ``[0, end]``; ``rest``: the bytes to count, None for those before."""
        hours = self._measure_hours(end)
        if rest is None:
            measured = list(hours)
            rest, hours = sum(size for _, size in measured), iter(measured)
        cut = 0
        for hour, size in hours:
            if rest <= limit:
                break
            rest -= size
            cut = hour + HOUR_MS
        return cut

    def _measure_hours(self, end: Milliseconds) -> Iterator[tuple[Milliseconds, int]]:
        documents = self._source.scan(0, end, _REQUEST_KEYS, fields=("key", "bytes"))
        for hour, group in groupby(documents, _read_hour):
            yield hour, sum(document.fields["bytes"].integer_value for document in group)


def _read_hour(document: Any) -> Milliseconds:
    return _floor_hour(int(document.fields["key"].string_value[:_TIME_DIGITS], 16))


def _floor_hour(timestamp: Milliseconds) -> Milliseconds:
    return timestamp - timestamp % HOUR_MS
