"""Store the records that come from another node, in one exchange, unless they are represented.

Each record ends in one of three ways: stored, in quarantine, or dropped because it is represented
in the master. :attr:`RecordMerger.reached` passes a record only after that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from portable_core.errors import (
    MalformedPayload,
    MalformedStream,
    QuarantineFull,
    RecordRefused,
    WebhookSyncError,
)
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.plausible_clock import PlausibleClock
from portable_core.ingest.recent_keys import RecentKeys
from portable_core.ports import (
    ALL_HASHES,
    HashRange,
    Lease,
    MasterStore,
    Milliseconds,
    Quarantined,
)
from portable_core.records import Pair, Record, Recovery, format_id, format_sort_key
from portable_core.settings import Settings
from portable_core.sync.clocks import PeerClocks
from portable_core.sync.copies import CopyFinder
from portable_core.sync.other_rules import OtherRules
from portable_core.sync.progress import Progress
from portable_core.sync.report import HOUR_MS

logger = logging.getLogger(__name__)

#: Bytes that an item of the quarantine occupies beside its record.
_ITEM_BYTES = 200

#: Records are saved when so many are pending, or so many bytes of them, or this long after the
#: last save.
SAVE_RECORDS = 500
SAVE_BYTES = 8 * 2**20
SAVE_INTERVAL_S = 1.0


#: A batch of a hand-over: at most so many records, and no more after so many bytes.
_BATCH_RECORDS = 500
_BATCH_BYTES = 8 * 2**20


@dataclass(slots=True)
class SyncContext:
    """What the steps of one sync share. ``lease`` is replaced when it is renewed.

    ``may_go_on`` renews the lease when that is due (``LeaseLost`` if it was lost) and returns
    whether the sync should continue. If it should not because a hand-over waits in this process,
    ``give_way`` lets that go first and returns True, with another lease; ``interruptions`` counts
    that, and what was read from the store before may have changed. ``master`` is the UUID of the
    master's store. ``erased_keys`` are the keys of webhooks that an operator has deleted.
    """

    settings: Settings
    store: MasterStore
    clock: PlausibleClock
    algorithm: str
    identifier: Identifier
    lease: Lease
    may_go_on: Callable[[], bool]
    give_way: Callable[[], bool]
    other_rules: OtherRules
    recent_keys: RecentKeys
    master: str
    peer_clocks: PeerClocks = field(default_factory=PeerClocks)
    interruptions: int = 0
    erased_keys: frozenset[str] = frozenset()


class LimitReached(Exception):
    """A limit of the master ends an exchange; the records received before are kept, as in a cut."""


class TooManyPairs(LimitReached):
    """A request has more pairs than it may have.

    ``timestamp`` is that of the first pair beyond the limit.
    """

    def __init__(self, timestamp: Milliseconds) -> None:
        super().__init__(timestamp)
        self.timestamp = timestamp


class RecordMerger:
    """Merges the records of one response, in the order in which they come, into the store."""

    def __init__(
        self,
        context: SyncContext,
        slave: str,
        start: Milliseconds,
        progress: Progress,
        copies: CopyFinder | None = None,
        hashes: HashRange = ALL_HASHES,
        *,
        refuse: bool = False,
    ) -> None:
        """Expect records from ``start`` on, with these hashes; count them in ``progress``.

        ``copies`` samples what is stored. ``refuse``: drop and count the invalid records that the
        quarantine has no room for, instead of raising ``QuarantineFull``.
        """
        self._refuse = refuse
        self._hashes = hashes
        self._copies = copies
        self._context = context
        self._slave = slave
        self._span = context.settings.span_ms
        self._progress = progress
        self._first = progress.records_received
        self._last = (start, -1)
        # By hash, the timestamp of the newest record that was accepted.
        self._recent: dict[int, Milliseconds] = {}
        self._records: list[Record] = []
        # Records represented by one of `_records`: needed if the store refuses that one.
        self._twins: list[Record] = []
        self._unsaved: set[int] = set()  # the hashes of `_records`
        self._quarantined: list[Quarantined] = []
        self._bytes = 0
        self._saved_at = context.clock.monotonic()
        #: Every record before it is stored, represented or in quarantine.
        self.reached = start

    def add(self, records: Sequence[Record], through: Milliseconds) -> None:
        """Merge some records of a response that covers timestamps before ``through``.

        Raises :class:`MalformedStream` at the first record out of order or outside the window; the
        records before it are kept.
        """
        for record in records:
            self._check_place(record, through)
            self._last = record.pair
            self._progress.records_received += 1
            self._sort(record)
            if len(self._records) + len(self._twins) >= SAVE_RECORDS or self._bytes >= SAVE_BYTES:
                self.save()
        self.save_when_due()

    def save_when_due(self) -> None:
        """Save if the last save was ``SAVE_INTERVAL_S`` ago."""
        if self._context.clock.monotonic() - self._saved_at >= SAVE_INTERVAL_S:
            self.save()

    def _check_place(self, record: Record, through: Milliseconds) -> None:
        pair, element = record.pair, self._progress.records_received - self._first
        if pair <= self._last:
            raise MalformedStream(f"{pair} comes after {self._last}", element)
        if pair.timestamp >= through:
            raise MalformedStream(f"{pair} is not in the window", element)
        if pair.hash not in self._hashes:
            raise MalformedStream(
                f"{pair} is not in the requested range of hashes. Does an older release answer at "
                "this address?",
                element,
            )

    def _sort(self, record: Record) -> None:
        """Choose what becomes of a record at the next save."""
        pair = record.pair
        try:
            self._context.identifier.check(record)
        except MalformedPayload as error:
            self.quarantine(record, str(error))
            return
        if self._is_represented(pair):
            self._progress.represented += 1
            if pair.hash in self._unsaved:
                self._twins.append(self._mark(record))
                self._bytes += record.size
            return
        self._recent[pair.hash] = pair.timestamp
        self._records.append(self._mark(record))
        self._unsaved.add(pair.hash)
        self._bytes += record.size

    def _is_represented(self, pair: Pair) -> bool:
        """Return whether a record accepted before it represents this pair."""
        return self._recent.get(pair.hash, -1 - self._span) >= pair.timestamp - self._span

    def _mark(self, record: Record) -> Record:
        """Return the record, marked as recovered from this slave now."""
        return structs.replace(record, recovery=Recovery(self._slave, self._context.clock.now()))

    def quarantine(self, record: Record, reason: str) -> None:
        """Set a record aside whole; it is in the quarantine after the next save."""
        name = f"{self._slave}-{format_sort_key(record.pair)}"
        now = self._context.clock.now()
        self._quarantined.append(Quarantined(name, self._slave, now, reason, record))
        self._bytes += record.size

    def save(self) -> None:
        """Save everything added so far, durably; then move ``reached``.

        Raises ``QuarantineFull``; ``reached`` is then at the first record that cannot be set aside,
        and all other records are saved.
        """
        store, lease = self._context.store, self._context.lease
        self._drop_represented()
        if self._records:
            try:
                store.save_records(lease, self._records)
                self._count_saved(self._records)
            except RecordRefused:
                self._save_singly()
        self._records, self._twins = [], []
        self._unsaved.clear()
        self._save_quarantined()
        self._bytes = 0
        self._saved_at = self._context.clock.monotonic()
        self.reached = self._last[0]
        floor = self.reached - self._span
        self._recent = {hash_: time for hash_, time in self._recent.items() if time >= floor}

    def _save_quarantined(self) -> None:
        """Set records aside, as many as the quarantine has room for."""
        if not self._quarantined:
            return
        fitting, rest = self._divide_quarantined()
        if fitting:
            self._context.store.save_quarantine(self._context.lease, fitting)
        self._progress.set_aside += len(self._quarantined) - len(rest)
        self._quarantined = rest
        if rest:
            first = min(rest, key=lambda item: item.record.pair)
            settings = self._context.settings
            error = QuarantineFull(
                f"the record {format_id(first.record.pair)} is invalid ({first.reason}) and cannot "
                f"be set aside: the quarantine has {settings.quarantine_records} records "
                f"(QUARANTINE_RECORDS) or {settings.quarantine_bytes} bytes (QUARANTINE_BYTES). "
                "Release or delete some of them (webhook-sync quarantine), or raise the limit."
            )
            if not self._refuse:
                self.reached = max(self.reached, first.record.pair.timestamp)
                raise error
            logger.error("%s: %d records are refused: %s", self._slave, len(rest), error)
            self._progress.refused += len(rest)
            self._quarantined = []

    def _divide_quarantined(self) -> tuple[list[Quarantined], list[Quarantined]]:
        """Return the items that fit, and those that neither fit nor are in the quarantine."""
        settings, store = self._context.settings, self._context.store
        records, size = store.quarantine_size()
        fitting: list[Quarantined] = []
        rest: list[Quarantined] = []
        for item in self._quarantined:
            longer = size + item.record.size + _ITEM_BYTES
            if records < settings.quarantine_records and longer <= settings.quarantine_bytes:
                records, size = records + 1, longer
                fitting.append(item)
            elif store.find_quarantined(item.id) is None:
                rest.append(item)
        return fitting, rest

    def _drop_represented(self) -> None:
        """Drop the records whose webhook was deleted, or is in the store under another rule."""
        keys = self._context.erased_keys
        dropped = {record.pair for record in self._records if record.meta.key in keys}
        rest = [record for record in self._records if record.pair not in dropped]
        dropped |= self._context.other_rules.find_represented(rest)
        if dropped:
            hashes = {pair.hash for pair in dropped}
            self._progress.represented += len(dropped)
            self._records = [r for r in self._records if r.pair not in dropped]
            self._twins = [r for r in self._twins if r.pair.hash not in hashes]

    def _count_saved(self, records: Sequence[Record]) -> None:
        self._progress.saved += len(records)
        completed = self._progress.completed
        self._progress.again += sum(record.pair.timestamp < completed for record in records)
        recent = self._context.recent_keys
        self._progress.repeats += sum(recent.add(record.meta.key) for record in records)
        if self._copies is not None:
            self._copies.examine(records)
        self._progress.missed.update(record.pair.timestamp // HOUR_MS for record in records)

    def _save_singly(self) -> None:
        """Save record by record, after the store refused one of the batch.

        A refused record goes to the quarantine and represents no later one, so its twins are
        considered again.
        """
        self._progress.represented -= len(self._twins)
        for hash_ in self._unsaved:
            del self._recent[hash_]
        for record in sorted([*self._records, *self._twins], key=lambda record: record.pair):
            if self._is_represented(record.pair):
                self._progress.represented += 1
                continue
            try:
                self._context.store.save_records(self._context.lease, [record])
            except RecordRefused as error:
                self.quarantine(record, str(error))
            else:
                self._count_saved([record])
                self._recent[record.pair.hash] = record.pair.timestamp


def divide_records(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Return the records in batches. The records before an error are in the last batch."""
    batch: list[Record] = []
    size = 0
    try:
        for record in records:
            batch.append(record)
            size += record.size
            if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except WebhookSyncError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
