"""Removing records from a master after they were archived, and bringing them back.

The archive is made elsewhere. The master says what it may remove, by the rules of retention, and
removes a stretch only if the archive has every record of it: their number and the digest of their
pairs prove that.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated

import msgspec

from portable_core.errors import BadRequest, Conflict, MalformedPayload
from portable_core.ingest.receiver import Receiver
from portable_core.ports import MasterStore, Milliseconds
from portable_core.records import MAX_INTEGER, Integer, Pair, Record, format_id, format_sort_key
from portable_core.sync.quarantine import Hold
from portable_core.sync.report import HOUR_MS
from portable_core.sync.resuming import format_moment
from portable_core.sync.retention import MasterRetention, RemovalPlan, describe_wait, floor_hour

logger = logging.getLogger(__name__)

Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ArchivePlan(msgspec.Struct, frozen=True):
    """What a master would remove after it was archived.

    ``start`` is that of the hour of the first record, null for an empty store. All records before
    ``end`` may be removed. ``waits``: by slave or consumer, why it is not later.
    """

    store: str
    hash: str
    start: Milliseconds | None
    end: Milliseconds
    waits: dict[str, str] = {}


class ArchivedStretch(msgspec.Struct, frozen=True):
    """A request to remove what was archived: the records of ``[start, end)``, and no others."""

    start: Milliseconds
    end: Milliseconds
    records: Integer
    pairs: Digest


class RemovedDocument(msgspec.Struct, frozen=True):
    """How many records were removed."""

    removed: Integer


class ImportDocument(msgspec.Struct, frozen=True):
    """What became of imported records: stored, in the store already, deleted by an operator."""

    stored: Integer
    present: Integer
    erased: Integer


def digest_pairs(pairs: Iterable[Pair]) -> tuple[int, str]:
    """Return the number of pairs and their digest."""
    count, digest = 0, hashlib.sha256()
    for count, pair in enumerate(pairs, 1):  # noqa: B007 -- the last one counts
        digest.update(format_sort_key(pair).encode())
    return count, digest.hexdigest()


class Archiving:
    """The archiving of one master. Safe to use from any thread."""

    def __init__(
        self,
        receiver: Receiver,
        store: MasterStore,
        retention: MasterRetention,
        hold_idle: Callable[[], AbstractContextManager[object]],
        hold: Hold,
    ) -> None:
        """``hold_idle`` raises ``LeaseHeld`` while a sync runs; ``hold`` lets a sync wait."""
        self._receiver = receiver
        self._store = store
        self._retention = retention
        self._hold_idle = hold_idle
        self._hold = hold

    def plan(self, before: Milliseconds) -> ArchivePlan:
        """Return what may be removed of the records before a time."""
        info = self._receiver.info()
        first, plan = self._store.first(), self._retention.plan_before(before)
        waits = {wait.name: describe_wait(wait, MAX_INTEGER) for wait in plan.waits}
        start = None if first is None else floor_hour(first)
        return ArchivePlan(info.uuid, info.algorithm, start, plan.cut, waits)

    def remove(self, stretch: ArchivedStretch) -> RemovedDocument:
        """Remove the records of a stretch.

        Raises ``BadRequest`` for bounds within an hour, and ``Conflict`` if there are other records
        than those of the archive, older ones, or some that a slave or a consumer needs.
        """
        if stretch.start % HOUR_MS or stretch.end % HOUR_MS:
            raise BadRequest("archive: a stretch has whole hours. Use webhook-sync archive.")
        with self._hold_idle():
            first = self._store.first()
            if first is None or first >= stretch.end:
                return RemovedDocument(0)
            self._check_plan(stretch, self._retention.plan_before(stretch.end))
            if first < stretch.start:
                raise Conflict(
                    f"archive: there are records before {format_moment(stretch.start)}. Archive "
                    "them first."
                )
            if self._digest(stretch) != (stretch.records, stretch.pairs):
                raise Conflict(
                    f"archive: the records from {format_moment(stretch.start)} on have changed "
                    "since they were archived. Archive them again."
                )
            self._retention.remove(stretch.end)
        logger.info("%d archived records were removed", stretch.records)
        return RemovedDocument(stretch.records)

    def _check_plan(self, stretch: ArchivedStretch, plan: RemovalPlan) -> None:
        if plan.cut < stretch.end:
            names = ", ".join(wait.name or "this master" for wait in plan.waits)
            raise Conflict(
                f"archive: records from {format_moment(plan.cut)} on are still needed ({names})"
            )

    def _digest(self, stretch: ArchivedStretch) -> tuple[int, str]:
        erased = self._find_erased()
        pairs = self._store.pairs(stretch.start, stretch.end)
        return digest_pairs(pair for pair in pairs if pair not in erased)

    def _find_erased(self) -> Collection[Pair]:
        return {tombstone.pair for _, tombstone in self._store.tombstones()}

    def bring_back(self, records: Sequence[Record]) -> ImportDocument:
        """Store records of an archive, except those that an operator has deleted. Idempotent.

        Raises ``BadRequest`` if a record has not the hash and key of its webhook.
        """
        for record in records:
            try:
                self._receiver.identifier.check(record)
            except MalformedPayload as error:
                raise BadRequest(f"import: {format_id(record.pair)}: {error}") from error
        if not records:
            return ImportDocument(0, 0, 0)
        with self._hold() as context:
            pairs, keys = self._find_erased(), context.erased_keys
            rest = [r for r in records if r.pair not in pairs and r.meta.key not in keys]
            present = self._find_present([record.pair for record in rest])
            new = [record for record in rest if record.pair not in present]
            self._store.import_records(context.lease, new)
        return ImportDocument(len(new), len(rest) - len(new), len(records) - len(rest))

    def _find_present(self, pairs: Sequence[Pair]) -> set[Pair]:
        wanted = set(pairs)
        if not wanted:
            return wanted
        times = [pair.timestamp for pair in pairs]
        return {pair for pair in self._store.pairs(min(times), max(times) + 1) if pair in wanted}
