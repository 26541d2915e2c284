"""Grouping records into segments, and these into commits within Firestore's limits.

n records in b commits are b writes, plus one for each further time bucket in a commit, for each
part of a large record, and for each record if it has a copy for queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.data_copies import write_copy
from portable_core.adapters.firestore.documents import (
    PARTS,
    floor_bucket,
    format_part_id,
    write_document,
)
from portable_core.adapters.firestore.segments import (
    SEGMENT_RECORDS,
    VALUES_BYTES,
    Draft,
    Item,
    draft_segments,
    set_place,
)
from portable_core.errors import RecordRefused
from portable_core.ports import Milliseconds
from portable_core.records import Record

#: The most bytes of a commit. Firestore accepts 10 MiB. A smaller request costs no more, is faster
#: to retry, and fits servers with gRPC's default limit of 4 MiB.
COMMIT_BYTES = 3_900_000

#: The most documents of a commit beside its fence. Firestore sets no limit, but more documents take
#: longer.
COMMIT_WRITES = 1000

#: The most copies for queries in one commit, and their bytes: the rest is for their segment.
_COPIES = COMMIT_WRITES - 1
_COPY_BYTES = 2_600_000

_WRITE_OVERHEAD = 8  # bytes around a write in a request


@dataclass(frozen=True, slots=True)
class DocumentOptions:
    """Options of records' documents.

    - ``native_data``: write a copy for queries, with the payload as a map.
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
        next_place: Callable[[], str] | None = str,
    ) -> None:
        """``next_place`` returns the place of the next segment; None for imported records."""
        self._database = database
        self._options = options
        self._fence = list(fence)
        self._next_place = next_place
        self._writes: list[Any] = []
        self._bytes = 0

    def add_records(self, records: Iterable[Record]) -> Iterator[list[Any]]:
        """Add records in order; return the commits that are full.

        :meth:`finish` returns the last commit. Raise ``RecordRefused``.
        """
        root = f"{self._database.path}/documents"
        imported = self._next_place is None
        for items in _group_items(self._pack_records(root, records)):
            # A TTL policy would remove imported records at once.
            expires = None if imported else self._options.expire(items[-1].pair.timestamp)
            for draft in draft_segments(root, items, expires, imported=imported):
                yield from self._add_segment(draft)

    def _pack_records(self, root: str, records: Iterable[Record]) -> Iterator[Item]:
        for record in records:
            try:
                copy = write_copy(root, record) if self._options.native_data else None
                yield Item.of(record, copy)
            except (ValueError, OverflowError) as error:
                raise RecordRefused(f"Firestore cannot hold {record.pair}: {error}") from error

    def _add_segment(self, draft: Draft) -> Iterator[list[Any]]:
        """Add a segment; its document and its copies for queries are in one commit."""
        if self._next_place is not None:
            set_place(draft, self._next_place())
        for part in draft.parts:
            yield from self.add([part])
        yield from self.add(draft.writes)

    def add_parts(self, id_: str, parts: Sequence[bytes]) -> Iterator[list[Any]]:
        """Add the parts of a large value; the document that counts them must follow."""
        for number, part in enumerate(parts):
            name = self._database.name(PARTS, format_part_id(id_, number))
            yield from self.add([write_document(name, {"body": part})])

    def add(self, writes: Sequence[Any]) -> Iterator[list[Any]]:
        """Add documents that must be in one commit."""
        size = sum(write.ByteSize() + _WRITE_OVERHEAD for write in writes)
        full = self._bytes + size > COMMIT_BYTES
        if self._writes and (full or len(self._writes) + len(writes) > COMMIT_WRITES):
            yield self._close()
        self._writes += writes
        self._bytes += size

    def finish(self, *, fence_alone: bool = False) -> Iterator[list[Any]]:
        """Return the last commit, if it has writes, or only a fence to check."""
        if self._writes or (fence_alone and self._fence):
            yield self._close()

    def _close(self) -> list[Any]:
        commit = [*self._fence, *self._writes]
        self._writes, self._bytes = [], 0
        return commit


def _group_items(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Divide items in order into those of one segment, or of several if they compress badly."""
    group: list[Item] = []
    values = copies = 0
    for item in items:
        value = 0 if item.is_large else len(item.value)
        copy = 0 if item.copy is None else item.copy.ByteSize() + _WRITE_OVERHEAD
        if group and (
            floor_bucket(item.pair.timestamp) != floor_bucket(group[0].pair.timestamp)
            or len(group) == (SEGMENT_RECORDS if item.copy is None else _COPIES)
            or values + value > VALUES_BYTES
            or copies + copy > _COPY_BYTES
        ):
            yield group
            group, values, copies = [], 0, 0
        group.append(item)
        values += value
        copies += copy
    if group:
        yield group
