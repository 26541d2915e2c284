"""The windows that ``RETENTION_BYTES`` removed: a bounded list, one document for each window."""

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
#: The most gaps that are kept; beyond that, the oldest two are merged.
_MAX_GAPS = 100


def read_gaps(database: Database) -> list[Gap]:
    """Return the windows ``[start, end)``, in order."""
    return [
        (document.fields["start"].integer_value, document.fields["end"].integer_value)
        for document in database.scan(RangeQuery(_GAPS, "key"), _MAX_GAPS)
    ]


def save_gap(database: Database, known: list[Gap], gap: Gap) -> list[Gap]:
    """Add a gap to the ``known`` ones, and return the new list."""
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
    """Return the gaps in order, without overlaps.

    A gap that begins in the bucket after another gap extends that gap.
    """
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
