"""What ``RETENTION_BYTES`` removed, as a bounded list of stretches of time: one document each."""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    delete_document,
    floor_bucket,
    format_time,
    write_document,
)
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.ports import Milliseconds

Gap = tuple[Milliseconds, Milliseconds]

_GAPS = "gaps"
#: Beyond so many, the oldest are told as one.
_MAX_GAPS = 100


def read_gaps(database: Database) -> list[Gap]:
    """Windows ``[start, end)``, in order."""
    return [
        (document.fields["start"].integer_value, document.fields["end"].integer_value)
        for document in database.scan(RangeQuery(_GAPS, "key"), _MAX_GAPS)
    ]


def save_gap(database: Database, known: list[Gap], gap: Gap) -> list[Gap]:
    """Add a gap to the ``known`` ones, and return what is known then."""
    gaps = merge_gaps([*known, gap])
    path = database.name(_GAPS, "")
    keys = {start: format_time(start) for start, _ in [*known, *gaps]}
    writes = [
        write_document(path + keys[start], {"key": keys[start], "start": start, "end": end})
        for start, end in gaps
        if (start, end) not in known
    ]
    kept = {start for start, _ in gaps}
    writes += [delete_document(path + keys[start]) for start, _ in known if start not in kept]
    if writes:
        database.commit(writes)
    return gaps


def merge_gaps(gaps: Iterable[Gap]) -> list[Gap]:
    """In order, without overlaps. One that begins in the bucket behind another continues it."""
    merged: list[Gap] = []
    for start, end in sorted(gaps):
        if merged and floor_bucket(start) <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    while len(merged) > _MAX_GAPS:
        first, second, *rest = merged
        merged = [(first[0], second[1]), *rest]
    return merged
