"""Grouping records into commits, each within Firestore's limits and with its records' pages.

n records in b commits are n + b writes, plus one for each further time bucket in a commit, plus the
parts of large records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PAGES,
    PARTS,
    RECORDS,
    PageEntry,
    encode_record,
    floor_bucket,
    format_id,
    format_part_id,
    group_by_bucket,
    set_expiry,
    write_document,
    write_page,
)
from portable_core.errors import RecordRefused
from portable_core.ports import Milliseconds
from portable_core.records import Record

#: The most bytes of a commit. Firestore accepts 10 MiB. A smaller request costs no more, is faster
#: to retry, and fits servers with gRPC's default limit of 4 MiB.
COMMIT_BYTES = 3_900_000

#: The most documents of a commit beside its pages. Firestore sets no limit, but more documents take
#: longer.
COMMIT_WRITES = 1000

_WRITE_OVERHEAD = 8  # bytes around a write in a request
_ENTRY_BYTES = 24  # bytes that a record adds to a page
_PAGE_BYTES = 400  # bytes of an empty page


@dataclass(frozen=True, slots=True)
class DocumentOptions:
    """Options of records' documents.

    - ``native_data``: add the payload as a map.
    - ``ttl_ms``: the age at which a TTL policy may remove a document, None for never.
    """

    native_data: bool = False
    ttl_ms: Milliseconds | None = None

    def expire(self, timestamp: Milliseconds) -> Milliseconds | None:
        return None if self.ttl_ms is None else timestamp + self.ttl_ms


class CommitBuilder:
    """Collects writes into commits, each of which begins with ``fence``."""

    def __init__(
        self,
        database: Database,
        options: DocumentOptions,
        fence: Sequence[Any] = (),
        next_place: Callable[[], str] = str,
    ) -> None:
        """``next_place`` returns the place of the next page."""
        self._database = database
        self._options = options
        self._fence = list(fence)
        self._next_place = next_place
        self._writes: list[Any] = []
        self._entries: list[PageEntry] = []
        self._buckets: set[Milliseconds] = set()
        self._bytes = 0

    def add_records(self, records: Iterable[Record]) -> Iterator[list[Any]]:
        """Add records; return the commits that are full. :meth:`finish` returns the last one.

        Raise ``RecordRefused``.
        """
        for record in records:
            id_ = format_id(record.pair)
            try:
                write, parts = encode_record(
                    self._database.name(RECORDS, id_), record, self._options.native_data
                )
            except (ValueError, OverflowError) as error:
                raise RecordRefused(f"Firestore cannot hold {record.pair}: {error}") from error
            expires = self._options.expire(record.pair.timestamp)
            yield from self.add_parts(id_, parts, expires)
            entry = PageEntry(record.pair.timestamp, record.pair.hash, record.size, len(parts))
            yield from self.add(set_expiry(write, expires), entry)

    def add_parts(
        self, id_: str, parts: Sequence[bytes], expires: Milliseconds | None = None
    ) -> Iterator[list[Any]]:
        """Add the parts of a large value; the document that counts them must follow."""
        for number, part in enumerate(parts):
            name = self._database.name(PARTS, format_part_id(id_, number))
            yield from self.add(set_expiry(write_document(name, {"body": part}), expires))

    def add(self, write: Any, entry: PageEntry | None = None) -> Iterator[list[Any]]:
        """Add one document; with ``entry``, add its pair to a page of the same commit."""
        size = write.ByteSize() + _WRITE_OVERHEAD + (_ENTRY_BYTES if entry else 0)
        pages = _PAGE_BYTES * (len(self._buckets) + 1)
        full = self._bytes + size + pages > COMMIT_BYTES
        if self._writes and (full or len(self._writes) >= COMMIT_WRITES):
            yield self._close()
        self._writes.append(write)
        self._bytes += size
        if entry is not None:
            self._entries.append(entry)
            self._buckets.add(floor_bucket(entry.timestamp))

    def finish(self, *, fence_alone: bool = False) -> Iterator[list[Any]]:
        """Return the last commit, if it has writes, or only a fence to check."""
        if self._writes or (fence_alone and self._fence):
            yield self._close()

    def _close(self) -> list[Any]:
        path = self._database.name(PAGES, "").rstrip("/")
        pages = [
            write_page(
                path, entries, self._options.expire(max(entries).timestamp), self._next_place()
            )
            for entries in group_by_bucket(self._entries)
        ]
        commit = [*self._fence, *self._writes, *pages]
        self._writes, self._entries, self._buckets, self._bytes = [], [], set(), 0
        return commit
