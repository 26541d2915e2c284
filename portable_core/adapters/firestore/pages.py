"""Reading pairs in order from pages, with at most one time bucket in memory.

Pages are read in the order of their first timestamps. A page that follows contains no pair before
its own first timestamp, so every pair before that timestamp can be returned. All pairs of a page
are in one bucket, so the pairs that must wait are those of one bucket at most.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PAGES,
    PageEntry,
    floor_bucket,
    format_time,
    read_page_entries,
)
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Pair

#: Pages in one request of a scan, and in one request of a read that needs few pages.
_REQUEST_PAGES = 64
_FEW_PAGES = 16


def query_pages(start: Milliseconds, end: Milliseconds, *, descending: bool = False) -> RangeQuery:
    """Return the query for the pages that may hold pairs of ``[start, end)``."""
    low = format_time(floor_bucket(max(start, 0)))
    return RangeQuery(PAGES, "key", low, format_time(end), descending)


def read_snapshot_time(database: Database) -> int:
    """Return a time of the server's clock, in ns since the epoch, that separates commits.

    A document committed before the call has a creation time at or before the returned time; a
    document committed after the call has a later one. That holds because Firestore orders commits
    and reads on one timeline. If the server's clock counts milliseconds, the call waits until the
    next millisecond.
    """
    _, snapshot = database.get([database.name("meta", "store")])
    if snapshot % 1_000_000 == 0:
        time.sleep(0.002)
    return snapshot


def read_entries(
    database: Database, start: Milliseconds, end: Milliseconds, *, placed: bool = True
) -> Iterator[PageEntry]:
    """Return the entries with ``start <= timestamp < end`` in order, each pair once.

    Pages created after the first entry was requested are left out; without ``placed`` also those
    that have a place in the order of arrival.
    """
    start, end = max(start, 0), min(end, MAX_INTEGER + 1)
    if start >= end:
        database.require_client()
        return
    snapshot = read_snapshot_time(database)
    waiting: list[PageEntry] = []
    last: Pair | None = None
    for page in database.scan(query_pages(start, end), _REQUEST_PAGES):
        if _created(page) > snapshot or (not placed and "place" in page.fields):
            continue
        entries = read_page_entries(page)
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


def read_latest(database: Database, before: Milliseconds, limit: int) -> list[Pair]:
    """Return the last ``limit`` pairs before ``before``, newest first."""
    pairs: list[Pair] = []
    bucket: set[Pair] = set()
    floor: Milliseconds | None = None
    for page in database.scan(query_pages(0, before, descending=True), _FEW_PAGES):
        entries = read_page_entries(page)
        if floor_bucket(entries[0].timestamp) != floor:
            pairs += sorted(bucket, reverse=True)
            bucket.clear()
            floor = floor_bucket(entries[0].timestamp)
            if len(pairs) >= limit:
                break
        bucket.update(entry.pair for entry in entries if entry.timestamp < before)
    pairs += sorted(bucket, reverse=True)
    return pairs[:limit]


def read_first(database: Database) -> Milliseconds | None:
    """Return the oldest pair's timestamp, from one page."""
    pages = database.read_page(query_pages(0, MAX_INTEGER + 1), None, 1)
    return read_page_entries(pages[0])[0].timestamp if pages else None


def read_newest(database: Database) -> Milliseconds | None:
    """Return the newest pair's timestamp, or one at most a bucket earlier, from one page."""
    pages = database.read_page(query_pages(0, MAX_INTEGER + 1, descending=True), None, 1)
    return read_page_entries(pages[0])[-1].timestamp if pages else None


def _created(page: Any) -> int:
    return int(page.create_time.seconds) * 1_000_000_000 + int(page.create_time.nanos)
