"""The slave: keeps webhooks until a master has them, and sends the master those it lacks.

``describe`` implements ``GET /sync``, ``answer`` implements ``POST /sync``; both work with values,
not HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from portable_core.epochs import Stint
from portable_core.errors import (
    BadRequest,
    Conflict,
    NotFound,
    StoreError,
    StreamCut,
    TooManySyncs,
)
from portable_core.ingest.receiver import Receiver
from portable_core.ports import (
    ALL_HASHES,
    Clock,
    HashRange,
    Milliseconds,
    SlaveInfo,
    StoreEpoch,
    StoreInfo,
    SyncRequest,
)
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.losses import describe_damages
from portable_core.sync.master_marks import MasterMark, MasterMarks
from portable_core.sync.parts import select_pairs
from portable_core.sync.reconcile import MAX_HELD, find_missing
from portable_core.wire.negotiation import ENCODINGS

logger = logging.getLogger(__name__)

#: How long a response may stall, neither reading nor being read, before its slot is given to
#: another sync.
STALLED_S = 60.0

_RETENTION_INTERVAL_S = 60.0
#: After a removal the next one is due sooner: a store may leave the rest for another call.
_RETENTION_PAUSE_S = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SyncQuery:
    """The parameters of a sync request: the window ``[start, end)`` of this node's timestamps.

    - ``epoch``: the epoch of this node's store in which the master's cursor reached ``start``;
      None if the request does not name one.
    - ``stint``: a stint of this node's store that the master has seen; None likewise.
    - ``compare_only``: do not advance retention; the master may lack records before ``start``.
    - ``hashes``: the range of hashes that is compared.
    - ``master``: the UUID of the master's store; empty for masters of older releases.
    """

    start: Milliseconds
    end: Milliseconds
    span: Milliseconds
    algorithm: str
    epoch: StoreEpoch | None = None
    compare_only: bool = False
    hashes: HashRange = ALL_HASHES
    master: str = ""
    stint: Stint | None = None

    @classmethod
    def of(cls, request: SyncRequest) -> SyncQuery:
        """Return the parameters of a request as they arrive at a slave in the same process."""
        return cls(
            request.start,
            request.end,
            request.span,
            request.algorithm,
            request.epoch,
            request.compare_only,
            request.hashes,
            request.master,
            request.stint,
        )


@dataclass(slots=True)
class SlaveCounters:
    """Counts since the process started.

    ``gone``: records that the master lacked, but that were removed before they could be read.
    """

    syncs: int = 0
    records_sent: int = 0
    gone: int = 0


@dataclass(slots=True, eq=False)
class Answer:
    """The response to a sync request; the caller closes it, even if it reads no record.

    ``records`` are the missing ones in order, read from the store as the caller iterates. They
    include every missing record before ``through``.
    """

    store: StoreInfo
    through: Milliseconds
    records: Iterator[Record]
    _slot: _Slot

    def close(self) -> None:
        self._slot.free()


class _Slots:
    """The responses in progress, limited in number.

    A master that vanishes silently leaves a response that would wait forever; its slot is given to
    another one after ``STALLED_S``.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._used: list[_Slot] = []

    def acquire(self) -> _Slot:
        """Return a free slot. Raises ``TooManySyncs``."""
        with self._lock:
            if len(self._used) >= self._most:
                stalled = min(self._used, key=lambda slot: slot.touched)
                if self._clock.monotonic() - stalled.touched < STALLED_S:
                    raise TooManySyncs(f"{self._most} syncs are in progress; try again")
                logger.warning("a sync that stalled for %g s is ended", STALLED_S)
                stalled.freed = True
                self._used.remove(stalled)
            slot = _Slot(self, self._clock.monotonic())
            self._used.append(slot)
            return slot

    def free(self, slot: _Slot) -> None:
        with self._lock:
            slot.freed = True
            if slot in self._used:
                self._used.remove(slot)

    def watch(self, slot: _Slot, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and note the times. Raises ``StreamCut`` once the slot was given away."""
        for item in items:
            slot.touched = self._clock.monotonic()
            yield item
            if slot.freed:
                raise StreamCut("this sync stalled for too long; its slot was given away")
            slot.touched = self._clock.monotonic()


@dataclass(slots=True, eq=False)
class _Slot:
    """``touched``: when a batch of the request or a record of the response was last passed on."""

    slots: _Slots
    touched: float
    freed: bool = False

    def free(self) -> None:
        self.slots.free(self)


class Slave:
    """The role of a slave around a receiver. Safe to use from any number of threads."""

    def __init__(self, receiver: Receiver, *, max_held: int = MAX_HELD) -> None:
        """``max_held``: the most hashes of a request in memory; see :func:`find_missing`."""
        self.receiver = receiver
        self._max_held = max_held
        self.counters = SlaveCounters()
        self._settings = receiver.settings
        self._slots = _Slots(receiver.clock, self._settings.max_syncs)
        self.masters = MasterMarks(receiver.store)
        self._retained = receiver.clock.monotonic()
        self._retaining = threading.Lock()

    def describe(self, stint: Stint | None = None, clock: Milliseconds | None = None) -> SlaveInfo:
        """Return what a master must know before it asks for a window.

        ``stint`` is one of this node's store that the master has seen; ``clock`` is what the
        master's clock shows.
        """
        if clock is not None and not self.receiver.store.shared:
            self.receiver.clock.confirm(clock)
        # In this order: this report may make a stint of a restored store as it was.
        continues = None if stint is None else self.receiver.knows(stint)
        reported = self.receiver.report_horizon()
        info = self.receiver.info()
        return SlaveInfo(
            store=info.uuid,
            generation=info.generation,
            first=self.receiver.store.first(),
            horizon=reported.horizon,
            now=self.receiver.now(),
            span=self._settings.span_ms,
            hash=self.receiver.algorithm,
            encodings=tuple(ENCODINGS),
            rules={name: rule.text for name, rule in self.receiver.identifier.rules.items()},
            ranges=True,
            clock=self.receiver.clock.read(),
            stint=reported.id,
            continues=continues,
            losses=describe_damages(self.receiver.store.losses()),
            ephemeral=self._settings.ephemeral,
            erases=self._settings.store.kind.erases,
        )

    def answer(self, query: SyncQuery, theirs: Iterable[Sequence[Pair]]) -> Answer:
        """Return the records of the window that are not represented in ``theirs``.

        ``theirs`` are the master's pairs; none is read before the first record is. Raises
        ``BadRequest`` for an invalid window, ``Conflict`` if the nodes disagree, ``TooManySyncs``.
        """
        self._check(query)
        slot = self._slots.acquire()
        try:
            info = self.receiver.info()
            if query.epoch not in (None, (info.uuid, info.generation)):
                # Records may have come back before ``start`` that the master lacks.
                raise Conflict(
                    f"store: this slave's is {info.uuid} in generation {info.generation} now, "
                    "not the one in the request; begin with GET /sync again"
                )
            if query.stint is not None and not self.receiver.knows(query.stint):
                raise Conflict(
                    "stint: this slave's store does not continue the one in the request; "
                    "begin with GET /sync again"
                )
            horizon = self.receiver.horizon()
            through = min(query.end, horizon)
            if not query.compare_only:
                self.masters.note(info, query.master, min(query.start, horizon))
            self.counters.syncs += 1
            missing = self._missing(query, through, self._slots.watch(slot, theirs))
            return Answer(info, through, self._slots.watch(slot, missing), slot)
        except BaseException:
            slot.free()
            raise

    def _check(self, query: SyncQuery) -> None:
        for name in ("start", "end", "span"):
            if not 0 <= getattr(query, name) <= MAX_INTEGER:
                raise BadRequest(f"{name}: must be 0 to {MAX_INTEGER}")
        if query.start >= query.end:
            raise BadRequest(f"end: the window [{query.start}, {query.end}) is empty")
        if query.span != self._settings.span_ms:
            raise Conflict(
                f"span: this slave has {self._settings.span_ms} ms, the request {query.span} ms; "
                "set the same SPAN_S on every node"
            )
        if query.algorithm != self.receiver.algorithm:
            raise Conflict(
                f"hash: this slave has {self.receiver.algorithm}, the request {query.algorithm}; "
                "set the same HASH and HASH_KEY on every node"
            )

    def _missing(
        self, query: SyncQuery, through: Milliseconds, theirs: Iterable[Sequence[Pair]]
    ) -> Iterator[Record]:
        """Read the records before ``through`` that are not represented in ``theirs``."""
        store = self.receiver.store
        ours = select_pairs(store.pairs(query.start, through), query.hashes)
        for run in find_missing(ours, theirs, query.span, max_held=self._max_held):
            found = 0
            for record in store.fetch(run):
                found += 1
                self.counters.records_sent += 1
                yield record
            self.counters.gone += len(run) - found

    def describe_masters(self) -> list[MasterMark]:
        """Return the masters that have synced this slave, the slowest first."""
        late_before = self.receiver.clock.now() - self._settings.retention_late_ms
        return self.masters.describe(self.receiver.info(), late_before)

    def forget_master(self, master: str) -> None:
        """Forget a master: retention no longer waits for it. Raises ``NotFound``."""
        self.receiver.open()
        if not self.masters.forget(master):
            raise NotFound(f"master: no master {master[:80]!r} has synced this slave")

    def retain(self, *, now: bool = False) -> None:
        """Remove the records that retention allows: once a minute, sooner while there are more.

        ``now``: without waiting. By age, only records that every known master has are removed. By
        bytes, the oldest ones are removed in any case; those that no master may have become a gap.
        """
        monotonic = self.receiver.clock.monotonic()
        if not now and monotonic - self._retained < _RETENTION_INTERVAL_S:
            return
        if not self._retaining.acquire(blocking=False):
            return
        self._retained = monotonic
        store, settings = self.receiver.store, self._settings
        try:
            aged = self.receiver.clock.now() - settings.retention_ms
            asked = self.masters.find_slowest(self.receiver.info())
            removed, gap = store.prune(min(aged, asked)), None
            if settings.retention_bytes is not None:
                gap = store.prune_to_size(settings.retention_bytes, asked)
                if gap is not None:
                    logger.error(
                        "RETENTION_BYTES: removed records of [%d, %d) that no master may have", *gap
                    )
            if removed or gap is not None:
                self._retained = monotonic - _RETENTION_INTERVAL_S + _RETENTION_PAUSE_S
        except StoreError as error:
            logger.warning("retention is postponed: %s", error)
        finally:
            self._retaining.release()

    def hand_over(
        self, after: Pair | None = None, end: Milliseconds = MAX_INTEGER
    ) -> Iterator[Record]:
        """Return the records before ``end`` that the master may lack, in order.

        They are all records from the start of the last window on, or ``after`` the last pair that
        the master has confirmed.
        """
        records = self.receiver.store.records(self._find_hand_over_start(after), end)
        return records if after is None else (record for record in records if record.pair > after)

    def count_to_hand_over(self, after: Pair | None = None) -> int:
        """Return how many records :meth:`hand_over` would return, without reading payloads."""
        pairs = self.receiver.store.pairs(self._find_hand_over_start(after), MAX_INTEGER)
        return sum(1 for pair in pairs if after is None or pair > after)

    def _find_hand_over_start(self, after: Pair | None) -> Milliseconds:
        if after is not None:
            return after.timestamp
        marks = self.masters.find_all(self.receiver.info()).values()
        # A master that is late would have more sent than the time allows; it keeps its mark.
        late_before = self.receiver.clock.now() - self._settings.retention_late_ms
        return min([mark for mark in marks if mark > late_before] or marks, default=0)
