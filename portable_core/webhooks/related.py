"""Records related to one record: copies of the same webhook, and records that may be copies.

Copies have the same key: a provider's later retry, or a delivery to another node whose timestamp is
more than a span away. Similar records have another key, but differ so little that the source may
need an identity rule (:mod:`portable_core.sync.copies`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from portable_core.ports import Milliseconds, Store
from portable_core.records import Pair, Record
from portable_core.sync.copies import find_similar
from portable_core.webhooks.search import Row, make_row

#: How far copies are searched on each side of a record: in time, and in pairs.
COPIES_MS: Milliseconds = 24 * 3_600_000
COPIES_PAIRS = 20_000

MOST_COPIES = 20
MOST_SIMILAR = 5

_MOST_READ = 100


@dataclass(frozen=True, slots=True)
class SimilarRow:
    """A record that may be a copy, and the JSON Pointers of the members that differ."""

    row: Row
    members: tuple[str, ...]


def find_copies(store: Store, record: Record) -> list[Row]:
    """Return the nearest other records with the key of ``record``, in order.

    They are found by their hash, which all records with the same key share unless they were hashed
    with another algorithm. Records without a stored key have no copies.
    """
    key, (time, hash_) = record.meta.key, record.pair
    if not key:
        return []
    earlier = (p for p in store.latest(time, COPIES_PAIRS) if p.timestamp >= time - COPIES_MS)
    later = islice(store.pairs(time + 1, time + COPIES_MS + 1), COPIES_PAIRS)
    pairs = [pair for pair in (*earlier, *later) if pair.hash == hash_]
    pairs.sort(key=lambda pair: abs(pair.timestamp - time))
    copies = (other for other in store.fetch(pairs[:_MOST_READ]) if other.meta.key == key)
    return sorted(map(make_row, islice(copies, MOST_COPIES)), key=_get_pair)


def find_similar_rows(store: Store, record: Record) -> list[SimilarRow]:
    """Return the records most similar to ``record``, in order."""
    found = [
        SimilarRow(make_row(other), members)
        for other, members in find_similar(store, record)
        if not record.meta.key or other.meta.key != record.meta.key
    ]
    found.sort(key=lambda similar: len(similar.members))
    return sorted(found[:MOST_SIMILAR], key=lambda similar: similar.row.pair)


def _get_pair(row: Row) -> Pair:
    return row.pair
