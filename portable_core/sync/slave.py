"""The slave: keeps webhooks until a master has them, and tells it which ones it lacks.

``describe`` answers ``GET /sync``, ``answer`` answers ``POST /sync``; both speak values, not HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from portable_core.errors import BadRequest, Conflict, StoreError, StreamCut, TooManySyncs
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Clock, Milliseconds, SlaveInfo, StoreEpoch, StoreInfo
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.reconcile import find_missing
from portable_core.wire.negotiation import ENCODINGS

logger = logging.getLogger(__name__)

#: The mark under which the highest ``start`` that a master asked for is kept: what lies before it
#: is represented in the master, so that retention may remove it. Each generation of the store has
#: its own, since records may have come back that no master has passed yet.
ASKED_MARK = "asked-{generation}"

#: How long an answer may stand still, neither reading nor being read, before its place is given to
#: another.
STALLED_S = 60.0

_RETENTION_INTERVAL_S = 60.0
#: Sooner again where something was removed: a store may leave the rest for another call.
_RETENTION_PAUSE_S = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SyncQuery:
    """What a master asks for: the window ``[start, end)`` of this node's timestamps.

    - ``epoch``: the epoch of this node's store in which the master's cursor reached ``start``;
      None if the request does not name one.
    - ``compare_only``: do not advance retention; the master may lack records before ``start``.
    """

    start: Milliseconds
    end: Milliseconds
    span: Milliseconds
    algorithm: str
    epoch: StoreEpoch | None = None
    compare_only: bool = False


@dataclass(slots=True)
class SlaveCounters:
    """Since the process started. ``gone``: missing, but removed before they could be read."""

    syncs: int = 0
    records_sent: int = 0
    gone: int = 0


@dataclass(slots=True, eq=False)
class Answer:
    """``records`` are the missing ones in order, read as they are taken; ``through`` bounds them.

    To be closed by whoever asked for it, also where not one record was taken.
    """

    store: StoreInfo
    through: Milliseconds
    records: Iterator[Record]
    _slot: _Slot

    def close(self) -> None:
        self._slot.free()


class _Slots:
    """The answers that are under way: at most so many.

    A master that vanished without a word leaves one behind that waits for it for ever; its place
    is given to another after ``STALLED_S``.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._taken: list[_Slot] = []

    def take(self) -> _Slot:
        """Raises ``TooManySyncs``."""
        with self._lock:
            if len(self._taken) >= self._most:
                stalled = min(self._taken, key=lambda slot: slot.touched)
                if self._clock.monotonic() - stalled.touched < STALLED_S:
                    raise TooManySyncs(f"{self._most} syncs are being answered; try again")
                logger.warning("a sync that stood still for %g s is given up", STALLED_S)
                stalled.freed = True
                self._taken.remove(stalled)
            slot = _Slot(self, self._clock.monotonic())
            self._taken.append(slot)
            return slot

    def free(self, slot: _Slot) -> None:
        with self._lock:
            slot.freed = True
            if slot in self._taken:
                self._taken.remove(slot)

    def watch(self, slot: _Slot, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and note when; end where the place was given to another."""
        for item in items:
            slot.touched = self._clock.monotonic()
            yield item
            if slot.freed:
                raise StreamCut("this sync stood still for too long; its place was given away")
            slot.touched = self._clock.monotonic()


@dataclass(slots=True, eq=False)
class _Slot:
    """``touched``: when a batch of the request or a record of the answer moved last."""

    slots: _Slots
    touched: float
    freed: bool = False

    def free(self) -> None:
        self.slots.free(self)


class Slave:
    """Safe to use from any number of threads."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.counters = SlaveCounters()
        self._settings = receiver.settings
        self._slots = _Slots(receiver.clock, self._settings.max_syncs)
        self._last_asked: tuple[str, Milliseconds] | None = None
        self._retained = receiver.clock.monotonic()
        self._retaining = threading.Lock()

    def describe(self) -> SlaveInfo:
        """What a master must know before it asks."""
        horizon = self.receiver.horizon()
        info = self.receiver.info()
        return SlaveInfo(
            store=info.uuid,
            generation=info.generation,
            first=self.receiver.store.first(),
            horizon=horizon,
            now=self.receiver.now(),
            span=self._settings.span_ms,
            hash=self.receiver.algorithm,
            encodings=tuple(ENCODINGS),
        )

    def answer(self, query: SyncQuery, theirs: Iterable[Sequence[Pair]]) -> Answer:
        """The records in the window that ``theirs``, the master's pairs, do not represent.

        Nothing of ``theirs`` is read before the first record is asked for. Raises ``BadRequest``
        for a window that is none, ``Conflict`` where the nodes disagree, ``TooManySyncs``.
        """
        self._check(query)
        slot = self._slots.take()
        try:
            info = self.receiver.info()
            if query.epoch not in (None, (info.uuid, info.generation)):
                # Records may have come back before ``start`` that the master does not have.
                raise Conflict(
                    f"store: this is {info.uuid} in generation {info.generation} by now, not what "
                    "the request names; begin with GET /sync again"
                )
            horizon = self.receiver.horizon()
            through = min(query.end, horizon)
            if not query.compare_only:
                mark, asked = _name_asked_mark(info), min(query.start, horizon)
                self._last_asked = (mark, asked)
                self._raise_asked_mark(mark, asked)
            self.counters.syncs += 1
            missing = self._missing(query, through, self._slots.watch(slot, theirs))
            return Answer(info, through, self._slots.watch(slot, missing), slot)
        except BaseException:
            slot.free()
            raise

    def _raise_asked_mark(self, mark: str, asked: Milliseconds) -> None:
        try:
            self.receiver.store.raise_mark(mark, asked)
        except StoreError as error:  # retention waits for the next one; the records must not
            logger.warning("what was asked for is not remembered: %s", error)

    def _check(self, query: SyncQuery) -> None:
        for name in ("start", "end", "span"):
            if not 0 <= getattr(query, name) <= MAX_INTEGER:
                raise BadRequest(f"{name}: must be 0 to {MAX_INTEGER}")
        if query.start >= query.end:
            raise BadRequest(f"the window [{query.start}, {query.end}) is empty")
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
        store = self.receiver.store
        for run in find_missing(store.pairs(query.start, through), theirs, query.span):
            found = 0
            for record in store.fetch(run):
                found += 1
                self.counters.records_sent += 1
                yield record
            self.counters.gone += len(run) - found

    def retain(self, *, now: bool = False) -> None:
        """Remove what retention allows: once a minute, in steps while there is more (or ``now``).

        By age only what a master has asked past; by bytes the oldest in any case, what no master
        has asked past as a gap.
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
            asked = store.mark(_name_asked_mark(self.receiver.info()))
            gone, gap = store.prune(min(aged, asked)), None
            if settings.retention_bytes is not None:
                gap = store.prune_to_size(settings.retention_bytes, asked)
                if gap is not None:
                    logger.error(
                        "RETENTION_BYTES: records of [%d, %d) went before a master had them", *gap
                    )
            if gone or gap is not None:
                self._retained = monotonic - _RETENTION_INTERVAL_S + _RETENTION_PAUSE_S
        except StoreError as error:
            logger.warning("retention has to wait: %s", error)
        finally:
            self._retaining.release()

    def hand_over(
        self, after: Pair | None = None, end: Milliseconds = MAX_INTEGER
    ) -> Iterator[Record]:
        """What a master may lack before ``end``, in order.

        That is everything from the start of the last window on, or ``after`` the last pair that
        the master has confirmed.
        """
        records = self.receiver.store.records(self._find_hand_over_start(after), end)
        return records if after is None else (record for record in records if record.pair > after)

    def count_to_hand_over(self, after: Pair | None = None) -> int:
        """How many records :meth:`hand_over` would give; no payload is read for it."""
        pairs = self.receiver.store.pairs(self._find_hand_over_start(after), MAX_INTEGER)
        return sum(1 for pair in pairs if after is None or pair > after)

    def _find_hand_over_start(self, after: Pair | None) -> Milliseconds:
        if after is not None:
            return after.timestamp
        # A master that was restored asks for less than it did before, and marks never decrease.
        mark = _name_asked_mark(self.receiver.info())
        if self._last_asked is not None and self._last_asked[0] == mark:
            return self._last_asked[1]
        return self.receiver.store.mark(mark)


def _name_asked_mark(info: StoreInfo) -> str:
    return ASKED_MARK.format(generation=info.generation)
