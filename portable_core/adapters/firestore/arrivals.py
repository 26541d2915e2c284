"""Reading records in the order of arrival: the segments of each writer by their numbers.

A position has a time: the writers made before it are complete and read. For each newer writer it
has the number of the last segment that was read, with the number of records read if that is not all
of the segment. The pages of the former layout are read likewise. Those without a place, of the
first releases, come first, in the order of their pairs.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from portable_core.adapters.firestore.documents import SEGMENTS, read_nanoseconds
from portable_core.adapters.firestore.former import PAGES
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.scans import (
    Source,
    read_documents,
    read_entries_of,
    read_snapshot_time,
    select_entries,
)
from portable_core.adapters.firestore.segments import Entry
from portable_core.adapters.firestore.writers import (
    end_of_writer,
    find_complete,
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
    """Return a position that is not :func:`parse_older`'s. Raise ``BadRequest``."""
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
    older = _OLDER.fullmatch(text)
    return parse_sort_key(older[1]) if older else None


def read_arrivals(reader: Reader, after: str) -> Iterator[Arrival]:
    """Yield the records after a position that were committed before the call."""
    older = parse_older(after)
    position = Position() if not after or older is not None else parse_position(after)
    snapshot = read_snapshot_time(reader.source.database)
    if reader.source.former and (not after or older is not None):
        yield from _read_older(reader, Pair(0, -1) if older is None else older)
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

    With each writer comes the collection of its documents.
    """
    collections = (SEGMENTS, PAGES) if source.former else (SEGMENTS,)
    return heapq.merge(*(_list_in(source, collection, since) for collection in collections))


def _list_in(source: Source, collection: str, since: Milliseconds) -> Iterator[tuple[str, str]]:
    low = format_time(since)
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
    end = MAX_INTEGER + 1
    documents = read_documents(reader.source, after.timestamp, end, placed=False)

    def list_entries() -> Iterator[Entry]:
        for entry in select_entries(documents, after.timestamp, end):
            if entry.pair > after:
                yield entry

    for record in reader.read(list_entries()):
        yield Arrival(f"p{format_sort_key(record.pair)}", record)


def _read_number(document: Any) -> int:
    return parse_place(document.fields["place"].string_value)[1]
