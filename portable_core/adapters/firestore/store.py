"""``firestore:PROJECT/DATABASE``: a store for many writers, and the state of a master.

:mod:`.segments` describes the documents, :mod:`.reading` their reading, :mod:`.leases` the
guarantees behind the lease, and ``docs/firestore.md`` the cost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from portable_core.adapters.firestore import identity, leases
from portable_core.adapters.firestore.batches import CommitBuilder, DocumentOptions
from portable_core.adapters.firestore.client import TIMEOUT_S, Database, read_elapsed
from portable_core.adapters.firestore.data_copies import drop_maps
from portable_core.adapters.firestore.documents import (
    BUCKET_MS,
    SEGMENTS,
    delete_document,
    floor_bucket,
)
from portable_core.adapters.firestore.failures import CommitRejected
from portable_core.adapters.firestore.former import PAGES
from portable_core.adapters.firestore.gaps import read_gaps, save_gap
from portable_core.adapters.firestore.master_methods import FirestoreMasterMethods
from portable_core.adapters.firestore.operations import OperationCounts
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.removal import Remover
from portable_core.adapters.firestore.scans import (
    Source,
    read_entries_of,
    read_first,
    read_latest,
    read_newest,
)
from portable_core.adapters.firestore.segments import REMOVAL_FIELDS
from portable_core.adapters.firestore.writers import Writers
from portable_core.errors import BatchTooLate, RecordRefused, StoreError
from portable_core.ports import (
    GAP_REASON,
    Damage,
    Lease,
    Milliseconds,
    StoreInfo,
    StoreStatus,
)
from portable_core.records import MAX_INTEGER, Pair, Record

_REMOVE_SEGMENTS = 32  # segments read at a time while removing


class FirestoreStore(FirestoreMasterMethods):
    """One Firestore database as a store. Safe to use from any number of threads and processes.

    Any number of instances may write to one database. If two of them receive the same payload in
    the same millisecond, both have the same pair, and the store has one record.

    Damage never sets a master's cursors back here: Firestore loses no part of a database by itself.
    After a restore from a backup, call :meth:`bump_generation`.
    """

    shared = True

    def __init__(
        self,
        project: str,
        database: str,
        *,
        commit_timeout_ms: Milliseconds,
        native_data: bool = False,
        ttl_ms: Milliseconds | None = None,
    ) -> None:
        """Make an unopened store.

        - ``commit_timeout_ms``: the time limit of a commit of new records.
        - ``native_data``: store a copy of each record too, with the payload as a map, for queries.
        - ``ttl_ms``: the age at which a TTL policy on the field ``expires`` may remove a record;
          None leaves the field out.
        """
        super().__init__(Reader(Source(Database(project, database))))
        self._options = DocumentOptions(native_data, ttl_ms)
        self._margin_s = min(commit_timeout_ms / 10, 1000) / 1000
        self._opening = threading.Lock()
        self._writers = Writers(self._database.estimate_now, read_elapsed)

    @property
    def operations(self) -> OperationCounts:
        """The counts of this object's requests to Firestore so far."""
        return self._database.operations.read()

    # -- opening and closing -----------------------------------------------------------------------

    def open(self, algorithm: str) -> StoreInfo:
        with self._opening:
            self._database.connect()
            try:
                info, self._source.former = identity.open_identity(self._database, algorithm)
                self._eraser.refresh()
                return info
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        with self._opening:
            self._database.close()

    def info(self) -> StoreInfo:
        return identity.read_identity(self._database)

    def bump_generation(self) -> None:
        """Make every master compare again from this store's first record.

        To be called once after the database was restored from a backup or to a point in time.
        """
        identity.bump_generation(self._database)

    def check(self) -> None:
        """Test the write path by deleting a document that does not exist; compare the clocks.

        With a clock ahead of Firestore's, this node would report a horizon before which other
        writers may still add records.
        """
        sent = time.time()
        nothing = self._database.name("meta", "nothing")
        committed = self._database.commit([delete_document(nothing)], timeout_s=5.0)
        ahead = sent - committed / 1e9
        if ahead > max(self._margin_s, 0.05):
            raise StoreError(
                f"this machine's clock is {ahead:.2f} s ahead of Firestore's. Correct the clock."
            )

    def status(self) -> StoreStatus:
        """Return the status, from a few reads.

        ``last`` may be ten seconds too early. The numbers of records and bytes are left out,
        because counting them on every call would cost too many reads.
        """
        gaps = tuple(read_gaps(self._database))
        newest = read_newest(self._source)
        return StoreStatus(None, self.first(), newest, gaps=gaps, quarantine=self.quarantine_size())

    # -- writing ---------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        """Append the records, as :meth:`portable_core.ports.Store.append` defines.

        Raise ``BatchTooLate`` if Firestore's clock at the commit is more than ``deadline`` ahead of
        this machine's clock at its begin. So a writer whose clock is behind fails, instead of
        adding records before a horizon that another writer has reported.
        """
        self._write(records, [], deadline)

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        with self._fenced(lease) as fence:
            self._write(records, [fence], None)

    def import_records(self, lease: Lease, records: Sequence[Record]) -> None:
        with self._fenced(lease) as fence:
            self._commit_records(records, [fence], None, None)

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[Any]:
        """Yield the write with which a commit fails once the lease is lost; then explain that."""
        try:
            yield leases.make_fence(self._database, lease)
        except CommitRejected as error:
            raise leases.explain_rejection(self._database, lease, error) from error

    def _write(
        self, records: Sequence[Record], fence: Sequence[Any], deadline: float | None
    ) -> None:
        self._database.require_client()
        try:
            with self._writers.borrow() as writer:
                self._commit_records(records, fence, deadline, writer.next_place)
        finally:
            self._listeners.notify()

    def _commit_records(
        self,
        records: Sequence[Record],
        fence: Sequence[Any],
        deadline: float | None,
        next_place: Callable[[], str] | None,
    ) -> None:
        limit = TIMEOUT_S if deadline is None else deadline - min(self._margin_s, deadline / 10)
        started, since = time.time(), time.monotonic()
        builder = CommitBuilder(self._database, self._options, fence, next_place)
        unique = {record.pair: record for record in self._eraser.leave_out(records)}
        ordered = [unique[pair] for pair in sorted(unique)]
        commits = chain(builder.add_records(ordered), builder.finish(fence_alone=not ordered))
        for writes in commits:
            rest = limit - (time.monotonic() - since)
            if rest <= 0:
                raise BatchTooLate("Firestore did not commit in time. Try again.")
            try:
                committed = self._database.commit(writes, timeout_s=rest)
            except RecordRefused:
                # If Firestore indexes the map, the map may have more index entries than allowed.
                if not drop_maps(writes, "Firestore refused the map"):
                    raise
                rest = max(limit - (time.monotonic() - since), 0.001)
                committed = self._database.commit(writes, timeout_s=rest)
            self._reader.forget(write.update.name for write in writes)
            if deadline is not None and committed / 1e9 - started > limit:
                raise BatchTooLate(
                    f"committed {committed / 1e9 - started:.2f} s after the start, by Firestore's "
                    "clock. If it was faster, correct this machine's clock."
                )

    # -- reading ---------------------------------------------------------------------------------

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        """Return pairs in order, as of one point in time; see :mod:`.scans`."""
        for entry in self._reader.entries(start, end):
            yield entry.pair

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        return self._reader.read(self._reader.entries(start, end))

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        return self._reader.fetch(pairs)

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        return read_latest(self._source, before, limit)

    def first(self) -> Milliseconds | None:
        return read_first(self._source)

    def last(self) -> Milliseconds | None:
        newest = self.latest(MAX_INTEGER + 1, 1)
        return newest[0].timestamp if newest else None

    # -- retention -------------------------------------------------------------------------------

    def prune(self, before: Milliseconds) -> int:
        """Remove the time buckets that end at or before ``before``; return the number of records.

        One call takes about a second at most and leaves the rest to the next call.
        """
        remover = Remover(self._reader)
        for document in self._scan_to_remove(0, floor_bucket(before)):
            remover.remove(document)
            if remover.exhausted:
                break
        remover.finish()
        return remover.records

    def _scan_to_remove(self, start: Milliseconds, end: Milliseconds) -> Iterator[Any]:
        return self._source.scan(start, end, _REMOVE_SEGMENTS, fields=REMOVAL_FIELDS)

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        """Remove the oldest buckets; the size is that of payloads and metadata, not compressed.

        The sum of all sizes costs one read for each 1,000 segments. One call takes about as long as
        a call of :meth:`prune`.
        """
        excess = self._database.sum(SEGMENTS, "bytes") - limit
        if self._source.former:
            excess += self._database.sum(PAGES, "bytes")
        if excess <= 0:
            return None
        remover = Remover(self._reader)
        gaps = read_gaps(self._database)
        start: Milliseconds | None = None
        end = 0
        for document in self._scan_to_remove(0, MAX_INTEGER + 1):
            first = read_entries_of(document)[0].timestamp
            if first >= end:
                if excess <= 0:
                    break
                start = max(first, asked) if start is None else start
                end = floor_bucket(first) + BUCKET_MS
                if start < end:
                    # Saved before anything is removed, so that no interruption hides the gap.
                    gaps = save_gap(self._database, gaps, (start, end))
            excess -= document.fields["bytes"].integer_value
            remover.remove(document)
            if remover.exhausted:
                break
        remover.finish()
        return None if start is None or start >= end else (start, end)

    def find_cut(self, at: Milliseconds) -> Milliseconds:
        """Return the start of a time bucket: a segment has the records of one bucket."""
        return floor_bucket(at + BUCKET_MS - 1)

    def remove_after(self, cut: Milliseconds) -> None:
        """Remove the segments from ``cut`` on: one delete for each document."""
        remover = Remover(self._reader)
        for document in self._scan_to_remove(cut, MAX_INTEGER + 1):
            remover.remove(document)
        remover.finish()

    def begin_generation(self) -> None:
        self.bump_generation()

    def losses(self) -> list[Damage]:
        """Return the gaps: Firestore loses no part of a database by itself."""
        return [Damage("gap", GAP_REASON, *gap) for gap in read_gaps(self._database)]

    def mark(self, name: str) -> int:
        values = identity.read_marks(self._database, name)
        return values[0] if values else 0

    def marks(self, prefix: str) -> dict[str, int]:
        return identity.list_marks(self._database, prefix)

    def raise_mark(self, name: str, value: int) -> int:
        return identity.raise_mark(self._database, name, value)

    def set_mark(self, name: str, value: int) -> None:
        identity.set_mark(self._database, name, value)
