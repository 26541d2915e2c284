"""Records related to one record: copies of the same webhook, and records that may be copies.

Copies have the same key: a provider's later retry, or a delivery to another node whose timestamp is
more than a span away. Similar records have another key, but differ so little that the source may
need an identity rule (:mod:`portable_core.sync.copies`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from portable_core.payload_hash.differences import find_differences
from portable_core.ports import Milliseconds
from portable_core.records import Pair, Record
from portable_core.sync.copies import find_similar
from portable_core.webhooks.search import Effort, Finder, Row, Search

#: How far copies are searched on each side of a record: in time, and in pairs.
COPIES_MS: Milliseconds = 24 * 3_600_000
COPIES_PAIRS = 10_000

#: The same with an index: providers retry for days.
INDEXED_COPIES_MS: Milliseconds = 7 * 24 * 3_600_000

MOST_COPIES = 20
MOST_SIMILAR = 5

_MOST_READ = 100


@dataclass(frozen=True, slots=True)
class RelatedRow:
    """A related record, and the JSON Pointers of the members in which its body differs.

    ``members`` is None if they are many or cannot be found.
    """

    row: Row
    members: tuple[str, ...] | None


def find_copies(finder: Finder, record: Record) -> list[RelatedRow]:
    """Return the nearest other records with the key of ``record``, in order.

    Without an index they are found by their hash, which all records with the same key share unless
    they were hashed with another algorithm. Records without a stored key have no copies.
    """
    if not record.meta.key:
        return []
    find = _find_by_hash if finder.index is None else _find_by_key
    pairs = sorted(
        find(finder, record), key=lambda pair: abs(pair.timestamp - record.pair.timestamp)
    )
    key = record.meta.key
    copies = (other for other in finder.store.fetch(pairs[:_MOST_READ]) if other.meta.key == key)
    found = [
        RelatedRow(finder.make_row(other), find_differences(record.payload, other.payload))
        for other in islice(copies, MOST_COPIES)
    ]
    return sorted(found, key=_get_pair)


def _find_by_key(finder: Finder, record: Record) -> list[Pair]:
    key, (time, _) = record.meta.key, record.pair
    earlier = Search(max(0, time - INDEXED_COPIES_MS), time, key=key)
    later = Search(time, time + INDEXED_COPIES_MS + 1, key=key)
    rows = [
        *finder.read_page(earlier, None, MOST_COPIES).rows,
        *finder.read_page(later, None, _MOST_READ).rows,
    ]
    return [row.pair for row in rows if row.pair != record.pair]


def _find_by_hash(finder: Finder, record: Record) -> list[Pair]:
    key, (time, hash_) = record.meta.key, record.pair
    search = Search(max(0, time - COPIES_MS), time, hash=hash_, key=key)
    effort = Effort(pairs=COPIES_PAIRS, records=_MOST_READ)
    earlier = [row.pair for row in finder.read_page(search, None, MOST_COPIES, effort).rows]
    later = islice(finder.store.pairs(time + 1, time + COPIES_MS + 1), COPIES_PAIRS)
    return [*earlier, *(pair for pair in later if pair.hash == hash_)]


def find_similar_rows(finder: Finder, record: Record) -> list[RelatedRow]:
    """Return the nearest of the records that differ from ``record`` in the fewest members.

    Those that differ in more members are other webhooks.
    """
    time, key = record.pair.timestamp, record.meta.key
    found = [
        (
            len(members),
            abs(other.pair.timestamp - time),
            RelatedRow(finder.make_row(other), members),
        )
        for other, members in find_similar(finder.store, record)
        if not key or other.meta.key != key
    ]
    fewest = min((count for count, _, _ in found), default=0)
    nearest = sorted((item for item in found if item[0] == fewest), key=lambda item: item[1])
    return sorted((row for _, _, row in nearest[:MOST_SIMILAR]), key=_get_pair)


def _get_pair(related: RelatedRow) -> Pair:
    return related.row.pair
