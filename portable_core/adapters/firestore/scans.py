"""Reading pairs in order from segments, with at most one time bucket in memory.

Segments are read in the order of their first timestamps. A segment that follows contains no pair
before its own first timestamp, so every pair before that timestamp can be returned. All pairs of a
segment are in one bucket, so the pairs that must wait are those of one bucket at most. Pages of the
former layout follow the same rules and are read among the segments.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    SEGMENTS,
    floor_bucket,
    format_time,
    read_nanoseconds,
)
from portable_core.adapters.firestore.former import PAGES, read_page_entries
from portable_core.adapters.firestore.operations import collection_of
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.segments import PAIR_FIELDS, Entry, read_segment_entries
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Pair

#: Segments in one request of a scan, and in one request of a read that needs few segments.
SCAN_SEGMENTS = 64
FEW_SEGMENTS = 16


@dataclass(slots=True)
class Source:
    """A database to scan; ``former``: whether it may have pages of the former layout."""

    database: Database
    former: bool = True

    def scan(
        self,
        start: Milliseconds,
        end: Milliseconds,
        size: int,
        *,
        descending: bool = False,
        fields: tuple[str, ...] = PAIR_FIELDS,
        read_at: list[int] | None = None,
    ) -> Iterator[Any]:
        """Return the segments and pages that may have pairs of ``[start, end)``, in order.

        Each request reads ``size`` documents. ``read_at`` gets the times of the reads; the smallest
        of those before the first document separates what is complete from what came later.
        """
        query = _select(SEGMENTS, start, end, descending, fields)
        segments = self.database.scan(query, size, read_at)
        if not self.former:
            return segments
        pages = self.database.scan(_select(PAGES, start, end, descending), size, read_at)
        return heapq.merge(segments, pages, key=_read_key, reverse=descending)

    def scan_segments(
        self,
        start: Milliseconds,
        end: Milliseconds,
        size: int,
        *,
        descending: bool = False,
        fields: tuple[str, ...] = PAIR_FIELDS,
    ) -> Iterator[Any]:
        """Return the segments alone."""
        return self.database.scan(_select(SEGMENTS, start, end, descending, fields), size)


def _select(
    collection: str,
    start: Milliseconds,
    end: Milliseconds,
    descending: bool,
    fields: tuple[str, ...] = (),
) -> RangeQuery:
    low = format_time(floor_bucket(max(start, 0)))
    return RangeQuery(collection, "key", low, format_time(end), descending, fields)


def _read_key(document: Any) -> str:
    key: str = document.fields["key"].string_value
    return key


def is_segment(document: Any) -> bool:
    """Return whether a document is a segment, and not a page of the former layout."""
    return collection_of(document.name) == SEGMENTS


def read_entries_of(document: Any) -> list[Entry]:
    """Return the entries of a segment or a page, in order. Raise ``StoreDamaged``."""
    return read_segment_entries(document) if is_segment(document) else read_page_entries(document)


def read_snapshot_time(database: Database) -> int:
    """Return a time of the server's clock, in ns since the epoch, that separates commits.

    A document committed before the call has a creation time at or before the returned time; a
    document committed after the call has a later one. That holds because Firestore orders commits
    and reads on one timeline.
    """
    _, snapshot = database.get([database.name("meta", "store")])
    wait_for_tick(snapshot)
    return snapshot


def wait_for_tick(read_at: int) -> None:
    """Wait until later commits have later times, if the server's clock counts milliseconds."""
    if read_at % 1_000_000 == 0:
        time.sleep(0.002)


def read_documents(
    source: Source, start: Milliseconds, end: Milliseconds, *, placed: bool = True
) -> Iterator[Any]:
    """Return the segments and pages of a window that were created before the first was requested.

    Without ``placed`` leave out those that have a place in the order of arrival.
    """
    start, end = max(start, 0), min(end, MAX_INTEGER + 1)
    if start >= end:
        source.database.require_client()
        return
    read_at: list[int] = []
    snapshot: int | None = None
    for document in source.scan(start, end, SCAN_SEGMENTS, read_at=read_at):
        if snapshot is None:
            snapshot = min(read_at)
            wait_for_tick(snapshot)
        if read_nanoseconds(document.create_time) > snapshot:
            continue
        if placed or not (is_segment(document) or "place" in document.fields):
            yield document


def select_entries(
    documents: Iterable[Any], start: Milliseconds, end: Milliseconds
) -> Iterator[Entry]:
    """Return the entries with ``start <= timestamp < end`` in order, each pair once.

    The documents are in the order of their first timestamps.
    """
    waiting: list[Entry] = []
    last: Pair | None = None
    for document in documents:
        entries = read_entries_of(document)
        ready = bisect_left(waiting, (entries[0].timestamp,))
        for entry in waiting[:ready]:
            if start <= entry.timestamp < end and entry.pair != last:
                yield entry
                last = entry.pair
        del waiting[:ready]
        waiting += entries
        waiting.sort()
    for entry in waiting:
        if start <= entry.timestamp < end and entry.pair != last:
            yield entry
            last = entry.pair


def read_latest(source: Source, before: Milliseconds, limit: int) -> list[Pair]:
    """Return the last ``limit`` pairs before ``before``, newest first."""
    pairs: list[Pair] = []
    bucket: set[Pair] = set()
    floor: Milliseconds | None = None
    for document in source.scan(0, before, FEW_SEGMENTS, descending=True):
        entries = read_entries_of(document)
        if floor_bucket(entries[0].timestamp) != floor:
            pairs += sorted(bucket, reverse=True)
            bucket.clear()
            floor = floor_bucket(entries[0].timestamp)
            if len(pairs) >= limit:
                break
        bucket.update(entry.pair for entry in entries if entry.timestamp < before)
    pairs += sorted(bucket, reverse=True)
    return pairs[:limit]


def read_first(source: Source) -> Milliseconds | None:
    """Return the oldest pair's timestamp, from one document."""
    for document in source.scan(0, MAX_INTEGER + 1, 1):
        return read_entries_of(document)[0].timestamp
    return None


def read_newest(source: Source) -> Milliseconds | None:
    """Return the newest pair's timestamp, or one at most a bucket earlier, from one document."""
    for document in source.scan(0, MAX_INTEGER + 1, 1, descending=True):
        return read_entries_of(document)[-1].timestamp
    return None
