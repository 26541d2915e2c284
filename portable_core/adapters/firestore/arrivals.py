"""Reading records in the order of arrival: the segments of each writer by their numbers.

A position has a time: the writers made before it are complete and read. For each newer writer it
has the number of the last segment that was read, with the number of records read if that is not all
of the segment. The pages of the former layout are read likewise. Those without a place, of the
first releases, come before them, in the order of their pairs. Imported segments come first of all,
likewise in the order of their pairs.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from portable_core.adapters.firestore.documents import (
    SEGMENTS,
    floor_bucket,
    read_nanoseconds,
)
from portable_core.adapters.firestore.former import PAGES
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.scans import (
    SCAN_SEGMENTS,
    Source,
    read_documents,
    read_entries_of,
    read_snapshot_time,
    select_entries,
)
from portable_core.adapters.firestore.segments import Entry
from portable_core.adapters.firestore.writers import (
    IMPORTED,
    end_of_writer,
    find_complete,
    format_imported_place,
    format_place,
    format_time,
    parse_place,
    read_time,
)
from portable_core.errors import BadRequest
from portable_core.ports import Arrival, Milliseconds
from portable_core.records import MAX_INTEGER, Pair, format_sort_key, parse_sort_key

#: Segments with their records in one request.
_REQUEST_SEGMENTS = 8

_OLDER = re.compile(r"p([0-9a-f]{28})")
_IMPORTED = re.compile(r"i([0-9a-f]{28})")
_POSITION = re.compile(r"([0-9a-f]{1,11})((?:-[0-9a-f]{17,28}(?:\.[0-9]{1,6})?)*)")
_PART = re.compile(r"-([0-9a-f]{16})([0-9a-f]+)(?:\.([0-9]+))?")


@dataclass(slots=True)
class Position:
    """A position, taken apart.

    - ``since``: the writers made before it are complete and read.
    - ``parts``: by writer, the last segment, and how many of its records were read; 0 for all.
    """

    since: Milliseconds = 0
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def format(self) -> str:
        parts = (
            f"-{writer}{number:x}" + (f".{read}" if read else "")
            for writer, (number, read) in sorted(self.parts.items())
        )
        return f"{self.since:x}" + "".join(parts)

    def advance(self, since: Milliseconds) -> None:
        """Drop the writers made before this time, which are complete and read."""
        if since > self.since:
            self.since = since
            self.parts = {w: part for w, part in self.parts.items() if read_time(w) >= since}


def parse_position(text: str) -> Position:
    """Return the position of a placed record. Raise ``BadRequest``."""
    match = _POSITION.fullmatch(text)
    if match is None:
        raise BadRequest("after: is not a position. Use one that the feed gave.")
    parts = {
        writer: (int(number, 16), int(read or 0))
        for writer, number, read in _PART.findall(match[2])
    }
    return Position(int(match[1], 16), parts)


def parse_older(text: str) -> Pair | None:
    """Return the last pair of a position in the pages without a place; None for another one."""
    return _parse_pair(_OLDER, text)


def parse_imported(text: str) -> Pair | None:
    """Return the last pair of a position among imported records; None for another one."""
    return _parse_pair(_IMPORTED, text)


def _parse_pair(pattern: re.Pattern[str], text: str) -> Pair | None:
    match = pattern.fullmatch(text)
    return parse_sort_key(match[1]) if match else None


def read_arrivals(reader: Reader, after: str) -> Iterator[Arrival]:
    """Yield the records after a position that were committed before the call."""
    before_first = Pair(0, -1)
    imported = parse_imported(after) if after else before_first
    older = parse_older(after) if imported is None else before_first
    position = Position() if older is not None else parse_position(after)
    snapshot = read_snapshot_time(reader.source.database)
    if imported is not None:
        yield from _read_imported(reader, imported, snapshot)
    if older is not None and reader.source.former:
        yield from _read_older(reader, older)
    complete = find_complete(snapshot)
    for writer, collection in list_writers(reader.source, position.since):
        position.advance(min(read_time(writer), complete))
        yield from _read_writer(reader, writer, collection, position, snapshot)


def find_newest(source: Source) -> str:
    """Return the position after the newest record."""
    snapshot = read_snapshot_time(source.database)
    position = Position(find_complete(snapshot))
    for writer, collection in list_writers(source, position.since):
        high = end_of_writer(writer)
        query = RangeQuery(collection, "place", f"{writer}-", high, True, ("place",))
        for document in source.database.scan(query, 4):
            if read_nanoseconds(document.update_time) <= snapshot:
                position.parts[writer] = (_read_number(document), 0)
                break
    return position.format()


def list_writers(source: Source, since: Milliseconds) -> Iterator[tuple[str, str]]:
    """Yield the writers made at this time or later, in the order of their ids.

    With each writer comes the collection of its documents. Imported segments are left out.
    """
    collections = (SEGMENTS, PAGES) if source.former else (SEGMENTS,)
    return heapq.merge(*(_list_in(source, collection, since) for collection in collections))


def _list_in(source: Source, collection: str, since: Milliseconds) -> Iterator[tuple[str, str]]:
    low = max(format_time(since), end_of_writer(IMPORTED))
    while True:
        query = RangeQuery(collection, "place", low, fields=("place",))
        documents = source.database.read_page(query, None, 1)
        if not documents:
            return
        writer, _ = parse_place(documents[0].fields["place"].string_value)
        yield writer, collection
        low = end_of_writer(writer)


def _read_writer(
    reader: Reader, writer: str, collection: str, position: Position, snapshot: int
) -> Iterator[Arrival]:
    """Yield the records of one writer after the position, which moves on."""
    number, read = position.parts.get(writer, (0, 0))
    low = format_place(writer, number if read else number + 1)
    query = RangeQuery(collection, "place", low, end_of_writer(writer))
    for document in reader.source.database.scan(query, _REQUEST_SEGMENTS):
        if read_nanoseconds(document.update_time) > snapshot:
            return  # all that follows is newer
        found = _read_number(document)
        entries = read_entries_of(document)
        skip = read if found == number else 0
        places = {entry.pair: index for index, entry in enumerate(entries, 1)}
        reader.add(document)
        for record in reader.read(entries[skip:]):
            index = places[record.pair]
            position.parts[writer] = (found, 0 if index == len(entries) else index)
            yield Arrival(position.format(), record)
        position.parts[writer] = (found, 0)


def _read_older(reader: Reader, after: Pair) -> Iterator[Arrival]:
    """Yield the records of pages without a place."""
    documents = read_documents(reader.source, after.timestamp, MAX_INTEGER + 1, placed=False)
    for record in reader.read(_select_after(documents, after)):
        yield Arrival(f"p{format_sort_key(record.pair)}", record)


def _read_imported(reader: Reader, after: Pair, snapshot: int) -> Iterator[Arrival]:
    """Yield the imported records."""
    documents = (
        document
        for document in scan_imported(reader.source, after.timestamp, SCAN_SEGMENTS)
        if read_nanoseconds(document.create_time) <= snapshot
    )
    for record in reader.read(_select_after(documents, after)):
        yield Arrival(f"i{format_sort_key(record.pair)}", record)


def scan_imported(source: Source, start: Milliseconds, size: int) -> Iterator[Any]:
    """Return the imported segments that may have pairs from ``start`` on, without the records.

    They are in the order of their first timestamps. Each request reads ``size`` documents.
    """
    low = format_imported_place(floor_bucket(start), "")
    query = RangeQuery(SEGMENTS, "place", low, end_of_writer(IMPORTED), fields=("place", "pairs"))
    return source.database.scan(query, size)


def _select_after(documents: Iterable[Any], after: Pair) -> Iterator[Entry]:
    for entry in select_entries(documents, after.timestamp, MAX_INTEGER + 1):
        if entry.pair > after:
            yield entry


def _read_number(document: Any) -> int:
    return parse_place(document.fields["place"].string_value)[1]
