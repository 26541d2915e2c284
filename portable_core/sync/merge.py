"""What the master does with records that come from another node, in one exchange.

Each record ends in one of three places: in the store, in the quarantine, or nowhere because the
master turned out to have it. Every record is in its place before
:attr:`RecordMerger.reached` passes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from portable_core.errors import MalformedPayload, MalformedStream, RecordRefused
from portable_core.ingest.identifier import Identifier
from portable_core.ports import Clock, Lease, MasterStore, Milliseconds, Quarantined
from portable_core.records import Pair, Record, Recovery, format_key
from portable_core.settings import Settings
from portable_core.sync.report import HOUR_MS

#: A save holds at most so many records, so many bytes of payload, and waits at most so long.
SAVE_RECORDS = 500
SAVE_BYTES = 8 * 2**20
SAVE_INTERVAL_S = 1.0


@dataclass(slots=True)
class SyncContext:
    """What everything that runs under one lease shares. ``lease`` is replaced when it is renewed.

    ``may_go_on`` renews the lease when that is due (``LeaseLost`` if it was lost) and tells whether
    the work should go on.
    """

    settings: Settings
    store: MasterStore
    clock: Clock
    algorithm: str
    identifier: Identifier
    lease: Lease
    may_go_on: Callable[[], bool]


class LimitReached(Exception):
    """A limit of this side ends an exchange; what came until then is kept, as after a cut."""


class RecordMerger:
    """Takes the records of one answer in the order in which they come."""

    def __init__(self, context: SyncContext, slave: str, start: Milliseconds) -> None:
        self._context = context
        self._slave = slave
        self._span = context.settings.span_ms
        self._start = start
        self._last = (start, -1)
        self._recent: dict[int, Milliseconds] = {}
        self._records: list[Record] = []
        # Those that one of `_records` represents: needed if the store refuses that one.
        self._twins: list[Record] = []
        self._unsaved: set[int] = set()  # the hashes of `_records`
        self._bytes = 0
        self._aside: list[Quarantined] = []
        self._saved_at = context.clock.monotonic()
        self.reached = start
        self.received = self.saved = self.represented = self.set_aside = 0
        #: Of those saved: how many by the hour of their timestamps, counted from the epoch.
        self.missed: Counter[int] = Counter()

    def add(self, records: Sequence[Record], through: Milliseconds) -> None:
        """Take some records of the answer, which may reach to ``through``, and save when it is due.

        Raises :class:`MalformedStream` at the first one out of order or out of the window; those
        before it are kept.
        """
        for record in records:
            self._check_place(record, through)
            self._last = record.pair
            self.received += 1
            self._sort(record)
            if len(self._records) + len(self._twins) >= SAVE_RECORDS or self._bytes >= SAVE_BYTES:
                self.save()
        self.save_when_due()

    def save_when_due(self) -> None:
        """Save if the last save was ``SAVE_INTERVAL_S`` ago."""
        if self._context.clock.monotonic() - self._saved_at >= SAVE_INTERVAL_S:
            self.save()

    def _check_place(self, record: Record, through: Milliseconds) -> None:
        pair = record.pair
        if pair <= self._last:
            raise MalformedStream(f"{pair} comes after {self._last}", self.received)
        if pair.timestamp >= through:
            raise MalformedStream(f"{pair} is not in the window", self.received)

    def _sort(self, record: Record) -> None:
        pair = record.pair
        try:
            self._context.identifier.check(record)
        except MalformedPayload as error:
            self.set_record_aside(record, str(error))
            return
        if self._is_represented(pair):
            self.represented += 1
            if pair.hash in self._unsaved:
                self._twins.append(self._mark(record))
                self._bytes += record.size
            return
        self._recent[pair.hash] = pair.timestamp
        self._records.append(self._mark(record))
        self._unsaved.add(pair.hash)
        self._bytes += record.size

    def _is_represented(self, pair: Pair) -> bool:
        """Whether one that was taken before represents it."""
        return self._recent.get(pair.hash, -1 - self._span) >= pair.timestamp - self._span

    def _mark(self, record: Record) -> Record:
        return replace(record, recovery=Recovery(self._slave, self._context.clock.now()))

    def set_record_aside(self, record: Record, reason: str) -> None:
        """Set a record aside whole; it is in the quarantine after the next save."""
        self.set_aside += 1
        name = f"{self._slave}-{format_key(record.pair)}"
        now = self._context.clock.now()
        self._aside.append(Quarantined(name, self._slave, now, reason, record))
        self._bytes += record.size

    def save(self) -> None:
        """Put everything taken so far in its place, durably; then move ``reached``."""
        store, lease = self._context.store, self._context.lease
        if self._records:
            try:
                store.save_records(lease, self._records)
                self._count_saved(self._records)
            except RecordRefused:
                self._save_singly()
        if self._aside:
            store.save_quarantine(lease, self._aside)
        self._records, self._twins, self._aside, self._bytes = [], [], [], 0
        self._unsaved.clear()
        self._saved_at = self._context.clock.monotonic()
        self.reached = self._last[0]
        floor = self.reached - self._span
        self._recent = {hash_: time for hash_, time in self._recent.items() if time >= floor}

    def _count_saved(self, records: Sequence[Record]) -> None:
        self.saved += len(records)
        self.missed.update(record.pair.timestamp // HOUR_MS for record in records)

    def _save_singly(self) -> None:
        """The same record by record; one that is refused represents none that comes after it."""
        self.represented -= len(self._twins)
        for hash_ in self._unsaved:
            del self._recent[hash_]
        for record in sorted([*self._records, *self._twins], key=lambda record: record.pair):
            if self._is_represented(record.pair):
                self.represented += 1
                continue
            try:
                self._context.store.save_records(self._context.lease, [record])
            except RecordRefused as error:
                self.set_record_aside(record, str(error))
            else:
                self._count_saved([record])
                self._recent[record.pair.hash] = record.pair.timestamp
