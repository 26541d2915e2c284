"""Search a store: webhooks newest first, those that match, or one of them.

The work is bounded by the page, not by the store: a page reads as many pairs as it has rows. A
search stops after a number of records (:class:`Effort`), and returns the position from which the
next page continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from portable_core.errors import BadRequest, NotFound
from portable_core.ports import Milliseconds, Store
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery, format_id, parse_id
from portable_core.webhooks.payload_text import contains_value, preview

#: The end of an open range.
FOREVER = MAX_INTEGER + 1

PAGE_ROWS = 50
MAX_PAGE_ROWS = 500

#: Headers in which providers name the event; the first one that is present counts.
_EVENT_HEADERS = (
    "x-forgejo-event",
    "x-gitea-event",
    "x-github-event",
    "x-gitlab-event",
    "x-event-key",
    "x-shopify-topic",
    "x-wc-webhook-topic",
    "sentry-hook-resource",
    "x-goog-resource-state",
    "ce-type",
)

_SEARCH_CHUNK = 256  # records
_HASH_CHUNK = 4096  # pairs


def find_event(meta: Meta) -> str:
    """Return the provider's name of the event; empty if no header has it."""
    headers = meta.headers
    return next((headers[name] for name in _EVENT_HEADERS if name in headers), "")


@dataclass(frozen=True, slots=True)
class Search:
    """The conditions of a search; None and empty values match every webhook.

    A webhook matches if it is in ``[start, end)`` and from ``source``, has this hash and this
    stored key, a kept header with exactly the value ``id``, and in its payload a value that
    contains ``value``. No hash follows from a key: a search for a key alone reads records.
    """

    start: Milliseconds = 0
    end: Milliseconds = FOREVER
    source: str | None = None
    hash: int | None = None
    key: str = ""
    id: str = ""
    value: str = ""

    @property
    def looks_inside(self) -> bool:
        """Return whether the record is needed, not only its pair, to decide if it matches."""
        return self.source is not None or bool(self.key or self.id or self.value)

    def matches(self, record: Record) -> bool:
        """Return whether the record matches, apart from range and hash."""
        return (
            (self.source is None or record.meta.source == self.source)
            and self.key in ("", record.meta.key)
            and (not self.id or self.id in record.meta.headers.values())
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

    @property
    def id(self) -> str:
        return format_id(self.pair)

    @property
    def event(self) -> str:
        return find_event(self.meta)


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


def find_by_id(store: Store, search: Search) -> Record | None:
    """Return the record whose own id is the ``id`` of the search, if the rest matches too.

    None for any other ``id``: it may be a provider's, in a kept header.
    """
    try:
        record = find_record(store, parse_id(search.id))
    except (BadRequest, NotFound):
        return None
    rest = replace(search, id="")
    in_range = search.start <= record.pair.timestamp < search.end
    same_hash = search.hash in (None, record.pair.hash)
    return record if in_range and same_hash and rest.matches(record) else None


def make_row(record: Record) -> Row:
    return Row(
        record.pair, record.meta, len(record.payload), record.recovery, preview(record.payload)
    )


def make_page(record: Record) -> Page:
    """Return the page of a search that found one record by its id."""
    return Page((make_row(record),), None, 1)


def read_page(
    store: Store,
    search: Search,
    before: Pair | None = None,
    limit: int = PAGE_ROWS,
    effort: Effort | None = None,
) -> Page:
    """Return the newest ``limit`` webhooks of the search before the pair ``before``."""
    begin = Pair(search.end, 0)
    if before is not None:
        begin = min(begin, before)
    query = _Query(store, search, limit, effort or Effort())
    return query.read(begin)


@dataclass(slots=True)
class _Query:
    store: Store
    search: Search
    limit: int
    effort: Effort
    rows: list[Row] = field(default_factory=list)
    pairs: int = 0
    records: int = 0
    bytes: int = 0

    def read(self, begin: Pair) -> Page:
        for chunk in self._walk_back(begin):
            self.pairs += len(chunk)
            wanted = self.search.hash
            chosen = [pair for pair in chunk if wanted is None or pair.hash == wanted]
            full = self._add_rows(chosen)
            if full is not None:
                return Page(tuple(self.rows), full, self._looked_at)
            if self._spent():
                return Page(tuple(self.rows), chunk[-1], self._looked_at, complete=False)
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

    def _walk_back(self, before: Pair) -> Iterator[list[Pair]]:
        """Yield the pairs of the range before ``before``, newest first, in chunks."""
        search = self.search
        usual = _SEARCH_CHUNK if search.looks_inside else self.limit + 1
        if search.hash is not None:
            usual = _HASH_CHUNK
        size = usual
        while True:
            latest = self.store.latest(min(before.timestamp + 1, FOREVER), size)
            chunk = [pair for pair in latest if pair < before and pair.timestamp >= search.start]
            if chunk:
                yield chunk
            if len(latest) < size or latest[-1].timestamp < search.start:
                return
            if chunk:
                before, size = chunk[-1], usual
            else:
                size *= 2  # many pairs share one millisecond, at or after the position

    def _add_rows(self, pairs: list[Pair]) -> Pair | None:
        """Add the rows of these pairs; return the last row's pair if the page is full."""
        room = self.limit - len(self.rows)
        if not self.search.looks_inside:
            self.rows += self._read_rows(pairs[:room])
            return self.rows[-1].pair if len(pairs) > room else None
        found = self._read_rows(pairs)
        self.rows += found[:room]
        return found[room - 1].pair if len(found) >= room else None

    def _read_rows(self, pairs: list[Pair]) -> list[Row]:
        """Return the matching rows, newest first, with one payload in memory at a time."""
        rows = []
        for record in self._read_records(pairs):
            if self.search.looks_inside:
                self.records += 1
                self.bytes += len(record.payload)
                if not self.search.matches(record):
                    continue
            rows.append(make_row(record))
        rows.reverse()
        return rows

    def _read_records(self, pairs: list[Pair]) -> Iterator[Record]:
        """Yield the records of these pairs, oldest first."""
        if self.search.hash is not None:  # few, and far apart
            for pair in reversed(pairs):
                yield from self.store.fetch([pair])
        elif pairs:
            wanted = set(pairs)
            for record in self.store.records(pairs[-1].timestamp, pairs[0].timestamp + 1):
                if record.pair in wanted:
                    yield record
