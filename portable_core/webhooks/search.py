"""Search a store: webhooks newest first, those that match, or one of them.

The work is bounded by the page, not by the store: a page reads as many pairs as it has rows. A
search stops after a number of records (:class:`Effort`), and returns the position from which the
next page continues. With an index of the store, a search by source, event, id, key or origin reads
only the records that the index lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from portable_core.errors import BadRequest, NotFound
from portable_core.ports import Milliseconds, SearchIndex, Store
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery, format_id, parse_id
from portable_core.webhooks.names import Names
from portable_core.webhooks.payload_text import contains_value, preview
from portable_core.webhooks.terms import (
    DIRECT,
    EVENT,
    ID,
    KEY,
    RECOVERED,
    SLAVE,
    SOURCE,
    make_term,
)

#: The end of an open range.
FOREVER = MAX_INTEGER + 1

PAGE_ROWS = 50
MAX_PAGE_ROWS = 500

_SEARCH_CHUNK = 256  # records
_HASH_CHUNK = 4096  # pairs


@dataclass(frozen=True, slots=True)
class Search:
    """The conditions of a search; None and empty values match every webhook.

    A webhook matches if it is in ``[start, end)`` and from ``source``, has this event, this hash
    and this stored key, the value ``id`` among its ids (:class:`.Names`), and in its payload a
    value that contains ``value``. With ``recovered``, the master recovered it from a slave, or, if
    False, received it from its sender; ``slave`` names the slave it was recovered from.
    """

    start: Milliseconds = 0
    end: Milliseconds = FOREVER
    source: str | None = None
    hash: int | None = None
    key: str = ""
    id: str = ""
    value: str = ""
    event: str = ""
    recovered: bool | None = None
    slave: str = ""

    @property
    def looks_inside(self) -> bool:
        """Return whether the record is needed, not only its pair, to decide if it matches."""
        return bool(self.terms or self.value)

    @property
    def terms(self) -> frozenset[bytes]:
        """The terms of every record that matches."""
        named = ((EVENT, self.event), (KEY, self.key), (ID, self.id), (SLAVE, self.slave))
        terms = {make_term(kind, value) for kind, value in named if value}
        if self.source is not None:
            terms.add(make_term(SOURCE, self.source))
        if self.recovered is not None:
            terms.add(RECOVERED if self.recovered else DIRECT)
        return frozenset(terms)

    def matches(self, record: Record, names: Names) -> bool:
        """Return whether the record matches, apart from range and hash."""
        recovery = record.recovery
        return (
            (self.source is None or record.meta.source == self.source)
            and self.key in ("", record.meta.key)
            and self.recovered in (None, recovery is not None)
            and (not self.slave or (recovery is not None and recovery.slave == self.slave))
            and (not self.id or self.id in names.ids(record))
            and (not self.event or self.event == names.event(record))
            and (not self.value or contains_value(record.payload, self.value))
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """The most that one page reads: pairs if they are enough, otherwise records and bytes."""

    pairs: int = 200_000
    records: int = 5_000
    bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """One webhook of a list: its record without the payload, whose start is ``preview``."""

    pair: Pair
    meta: Meta
    size: int
    recovery: Recovery | None
    preview: str
    event: str = ""

    @property
    def id(self) -> str:
        return format_id(self.pair)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of webhooks.

    - ``rows``: the webhooks, newest first.
    - ``before``: the pair before which the next page begins; None after the last page.
    - ``looked_at``: the number of records or pairs read.
    - ``complete``: False if the search stopped at its limit; the next page may then have more rows.
    """

    rows: tuple[Row, ...] = ()
    before: Pair | None = None
    looked_at: int = 0
    complete: bool = True


def find_record(store: Store, pair: Pair) -> Record:
    """Return the record of this pair. Raises ``NotFound``."""
    for record in store.fetch([pair]):
        return record
    raise NotFound(f"this master has no webhook {format_id(pair)}")


class Finder:
    """Searches one store, with its ``index`` if it has one."""

    def __init__(
        self, store: Store, names: Names | None = None, index: SearchIndex | None = None
    ) -> None:
        self.store = store
        self.names = names or Names()
        self.index = index

    def find_by_id(self, search: Search) -> Record | None:
        """Return the record whose own id is the ``id`` of the search, if the rest matches too.

        None for any other ``id``: it may be a provider's.
        """
        try:
            record = find_record(self.store, parse_id(search.id))
        except (BadRequest, NotFound):
            return None
        rest = replace(search, id="")
        in_range = search.start <= record.pair.timestamp < search.end
        same_hash = search.hash in (None, record.pair.hash)
        return record if in_range and same_hash and rest.matches(record, self.names) else None

    def make_row(self, record: Record) -> Row:
        event, size = self.names.event(record), len(record.payload)
        return Row(record.pair, record.meta, size, record.recovery, preview(record.payload), event)

    def make_page(self, record: Record) -> Page:
        """Return the page of a search that found one record by its id."""
        return Page((self.make_row(record),), None, 1)

    def read_page(
        self,
        search: Search,
        before: Pair | None = None,
        limit: int = PAGE_ROWS,
        effort: Effort | None = None,
    ) -> Page:
        """Return the newest ``limit`` webhooks of the search before the pair ``before``."""
        begin = Pair(search.end, 0)
        if before is not None:
            begin = min(begin, before)
        return _Query(self, search, limit, effort or Effort()).read(begin)


class _Chunk(NamedTuple):
    """Pairs to look at, newest first, and the pair before which none was looked for yet.

    ``together``: they are all pairs of their stretch of time. ``last``: the page ends after it.
    """

    pairs: Sequence[Pair]
    reached: Pair | None
    together: bool = True
    last: bool = False


@dataclass(slots=True)
class _Query:
    finder: Finder
    search: Search
    limit: int
    effort: Effort
    rows: list[Row] = field(default_factory=list)
    pairs: int = 0
    records: int = 0
    bytes: int = 0

    def read(self, begin: Pair) -> Page:
        index = self.finder.index
        if index is not None and self.search.terms:
            walk = self._walk_index(index, begin)
        else:
            walk = self._walk_back(begin)
        for chunk in walk:
            self.pairs += len(chunk.pairs)
            wanted = self.search.hash
            chosen = [pair for pair in chunk.pairs if wanted is None or pair.hash == wanted]
            full = self._add_rows(chosen, together=chunk.together and wanted is None)
            if full is not None:
                return Page(tuple(self.rows), full, self._looked_at)
            if chunk.reached is not None and (chunk.last or self._spent()):
                return Page(tuple(self.rows), chunk.reached, self._looked_at, complete=False)
        return Page(tuple(self.rows), None, self._looked_at)

    @property
    def _looked_at(self) -> int:
        return self.records if self.search.looks_inside else self.pairs

    def _spent(self) -> bool:
        effort = self.effort
        return (
            self.pairs >= effort.pairs
            or self.records >= effort.records
            or self.bytes >= effort.bytes
        )

    def _walk_back(self, before: Pair) -> Iterator[_Chunk]:
        """Yield the pairs of the range before ``before``, newest first, in chunks."""
        search, store = self.search, self.finder.store
        usual = _SEARCH_CHUNK if search.looks_inside else self.limit + 1
        if search.hash is not None:
            usual = _HASH_CHUNK
        size = usual
        while True:
            latest = store.latest(min(before.timestamp + 1, FOREVER), size)
            chunk = [pair for pair in latest if pair < before and pair.timestamp >= search.start]
            if chunk:
                yield _Chunk(chunk, chunk[-1])
            if len(latest) < size or latest[-1].timestamp < search.start:
                return
            if chunk:
                before, size = chunk[-1], usual
            else:
                size *= 2  # many pairs share one millisecond, at or after the position

    def _walk_index(self, index: SearchIndex, before: Pair) -> Iterator[_Chunk]:
        """Yield the pairs that the index lists before ``before``, newest first, in chunks."""
        terms, start = self.search.terms, self.search.start
        size = min(self.limit + 1, _SEARCH_CHUNK)
        while True:
            found = index.find(terms, start, before, size)
            yield _Chunk(found.pairs, found.reached, False, len(found.pairs) < size)
            if found.reached is None:
                return
            before, size = found.reached, _SEARCH_CHUNK

    def _add_rows(self, pairs: Sequence[Pair], *, together: bool) -> Pair | None:
        """Add the rows of these pairs; return the last row's pair if the page is full."""
        room = self.limit - len(self.rows)
        if not self.search.looks_inside:
            self.rows += self._read_rows(pairs[:room], together=together)
            return self.rows[-1].pair if len(pairs) > room else None
        found = self._read_rows(pairs, together=together)
        self.rows += found[:room]
        return found[room - 1].pair if len(found) >= room else None

    def _read_rows(self, pairs: Sequence[Pair], *, together: bool) -> list[Row]:
        """Return the matching rows, newest first, with one payload in memory at a time."""
        rows = []
        for record in self._read_records(pairs, together=together):
            if self.search.looks_inside:
                self.records += 1
                self.bytes += len(record.payload)
                if not self.search.matches(record, self.finder.names):
                    continue
            rows.append(self.finder.make_row(record))
        rows.reverse()
        return rows

    def _read_records(self, pairs: Sequence[Pair], *, together: bool) -> Iterator[Record]:
        """Yield the records of these pairs, oldest first."""
        store = self.finder.store
        if not together:  # few, and far apart
            yield from store.fetch(list(reversed(pairs)))
        elif pairs:
            wanted = set(pairs)
            for record in store.records(pairs[-1].timestamp, pairs[0].timestamp + 1):
                if record.pair in wanted:
                    yield record
