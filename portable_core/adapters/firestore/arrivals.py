"""Reading records in the order of arrival: the pages of each writer by their numbers.

A position has a time: the writers made before it are complete and read. For each newer writer it
has the number of the last page that was read, with the number of records read if that is not all of
the page. Pages of older versions have no place: they come first, in the order of their pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import PAGES, PageEntry, read_page_entries
from portable_core.adapters.firestore.pages import read_entries, read_snapshot_time
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.records import read_records
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

_REQUEST_PAGES = 64

_OLDER = re.compile(r"p([0-9a-f]{28})")
_POSITION = re.compile(r"([0-9a-f]{1,11})((?:-[0-9a-f]{17,28}(?:\.[0-9]{1,6})?)*)")
_PART = re.compile(r"-([0-9a-f]{16})([0-9a-f]+)(?:\.([0-9]+))?")


@dataclass(slots=True)
class _Position:
    """``parts``: by writer, the last page, and how many of its records were read; 0 for all."""

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


def _parse(text: str) -> _Position:
    match = _POSITION.fullmatch(text)
    if match is None:
        raise BadRequest("after: is not a position. Use one that the feed gave.")
    parts = {
        writer: (int(number, 16), int(read or 0))
        for writer, number, read in _PART.findall(match[2])
    }
    return _Position(int(match[1], 16), parts)


def read_arrivals(database: Database, after: str) -> Iterator[Arrival]:
    """Yield the records after a position that were committed before the call."""
    older = _OLDER.fullmatch(after)
    position = _Position() if not after or older else _parse(after)
    snapshot = read_snapshot_time(database)
    if not after or older:
        yield from _read_older(database, parse_sort_key(older[1]) if older else Pair(0, -1))
    complete = find_complete(snapshot)
    for writer in _list_writers(database, position.since):
        position.advance(min(read_time(writer), complete))
        yield from _read_writer(database, writer, position, snapshot)


def find_newest(database: Database) -> str:
    """Return the position after the newest record."""
    snapshot = read_snapshot_time(database)
    position = _Position(find_complete(snapshot))
    for writer in _list_writers(database, position.since):
        high = end_of_writer(writer)
        query = RangeQuery(PAGES, "place", f"{writer}-", high, descending=True, fields=("place",))
        for page in database.scan(query, 4):
            if _updated(page) <= snapshot:
                position.parts[writer] = (_read_number(page), 0)
                break
    return position.format()


def _list_writers(database: Database, since: Milliseconds) -> Iterator[str]:
    """Yield the writers made at this time or later that have pages, in the order of their ids."""
    low = format_time(since)
    while True:
        query = RangeQuery(PAGES, "place", low, fields=("place",))
        pages = database.read_page(query, None, 1)
        if not pages:
            return
        writer, _ = parse_place(pages[0].fields["place"].string_value)
        yield writer
        low = end_of_writer(writer)


def _read_writer(
    database: Database, writer: str, position: _Position, snapshot: int
) -> Iterator[Arrival]:
    """Yield the records of one writer after the position, which moves on."""
    number, read = position.parts.get(writer, (0, 0))
    low = format_place(writer, number if read else number + 1)
    for page in database.scan(RangeQuery(PAGES, "place", low, end_of_writer(writer)), 16):
        if _updated(page) > snapshot:
            return  # all that follows is newer
        found = _read_number(page)
        entries = read_page_entries(page)
        skip = read if found == number else 0
        places = {entry.pair: index for index, entry in enumerate(entries, 1)}
        for record in read_records(database, entries[skip:]):
            index = places[record.pair]
            position.parts[writer] = (found, 0 if index == len(entries) else index)
            yield Arrival(position.format(), record)
        position.parts[writer] = (found, 0)


def _read_older(database: Database, after: Pair) -> Iterator[Arrival]:
    """Yield the records of pages without a place."""

    def list_entries() -> Iterator[PageEntry]:
        for entry in read_entries(database, after.timestamp, MAX_INTEGER + 1, placed=False):
            if entry.pair > after:
                yield entry

    for record in read_records(database, list_entries()):
        yield Arrival(f"p{format_sort_key(record.pair)}", record)


def _read_number(page: Any) -> int:
    return parse_place(page.fields["place"].string_value)[1]


def _updated(page: Any) -> int:
    return int(page.update_time.seconds) * 1_000_000_000 + int(page.update_time.nanos)
