"""The timestamps that a node assigns: they never decrease, and no pair is assigned twice."""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush

from portable_core.errors import BufferFull
from portable_core.ports import Clock, Milliseconds
from portable_core.records import MAX_INTEGER, Pair

#: The most pairs of one millisecond. Only while the clock is behind could there be more, and all of
#: them are remembered until the next millisecond.
MOST_PER_MS = 1_000

#: How far webhooks with one hash may push the floor ahead of the date, unless the span is short
#: (:func:`find_most_lead`). It is far below the quarter of a span that nodes may differ by.
MOST_LEAD_MS = 2_000

#: How many milliseconds after the floor are looked at, one by one, for an unused pair.
_MOST_STEPS = 64

#: How many reserved pairs that the floor has passed are forgotten at a time, at most. So no call
#: takes longer because many pairs were reserved.
_FORGET = 8


def find_most_lead(span_ms: Milliseconds) -> Milliseconds:
    """Return how far webhooks with one hash may push the floor ahead of the date."""
    return min(MOST_LEAD_MS, span_ms // 16)


def _encode(pair: Pair) -> int:
    """Return an integer of the same order, in a third of the memory."""
    return pair.timestamp * (MAX_INTEGER + 1) + pair.hash


class Timestamps:
    """For one thread at a time. ``floor`` is the first timestamp that may still be assigned."""

    def __init__(
        self, clock: Clock, floor: Milliseconds, most_lead: Milliseconds = MOST_LEAD_MS
    ) -> None:
        self._clock = clock
        self._most_lead = most_lead
        self.floor = floor
        #: The floor without what webhooks with one hash have added.
        self._base = floor
        #: Whether the hash of the last record was why its timestamp is later than the floor was.
        self.moved = False
        self._assigned = 0  # at the floor
        self._hashes: set[int] = set()  # of the pairs assigned at the floor
        #: The reserved pairs: as a set, as a heap, and the newest timestamp of each hash.
        self._reserved: set[int] = set()
        self._oldest: list[int] = []
        self._newest: dict[int, Milliseconds] = {}

    def next(self, hash_: int) -> Pair:
        """Return a pair of the clock's time, or an unused one soon after it.

        Raises ``BufferFull`` if the first unused one is too far ahead.
        """
        now = self._clock.now()
        if now > self.floor:
            self.raise_floor(now)
        elif self._assigned >= MOST_PER_MS:
            self._base += 1
            self._set_floor(self.floor + 1)
        pair = self._find_unused(hash_)
        self.moved = pair.timestamp > self.floor
        if self.moved:
            if pair.timestamp - max(self._base, now) > self._most_lead:
                raise BufferFull(
                    f"too many different webhooks have the hash {hash_} at this moment. "
                    "Send it again."
                )
            self._set_floor(pair.timestamp)
        self._assigned += 1
        self._hashes.add(hash_)
        if self._oldest:
            self._forget(_FORGET)
        return pair

    def _find_unused(self, hash_: int) -> Pair:
        first = self.floor + (hash_ in self._hashes)
        if not self._reserved:
            return Pair(first, hash_)
        for timestamp in range(first, first + _MOST_STEPS):
            pair = Pair(timestamp, hash_)
            if _encode(pair) not in self._reserved:
                return pair
        return Pair(self._newest[hash_] + 1, hash_)

    def raise_floor(self, floor: Milliseconds) -> None:
        """Assign no timestamp before ``floor`` from now on."""
        self._base = max(self._base, floor)
        if floor > self.floor:
            self._set_floor(floor)

    def find_lead(self) -> Milliseconds:
        """Return how far webhooks with one hash have pushed the floor ahead of the date."""
        return self.floor - min(self.floor, max(self._base, self._clock.now()))

    def _set_floor(self, floor: Milliseconds) -> None:
        self.floor, self._assigned, self._hashes = floor, 0, set()
        if self._oldest:
            self._forget(_FORGET)

    def reserve(self, pairs: Collection[Pair]) -> None:
        """Never assign these pairs."""
        for pair in pairs:
            code = _encode(pair)
            if pair.timestamp >= self.floor and code not in self._reserved:
                self._reserved.add(code)
                heappush(self._oldest, code)
                if self._newest.get(pair.hash, -1) < pair.timestamp:
                    self._newest[pair.hash] = pair.timestamp
        self._forget(2 * len(pairs))  # more than were added, so that memory is bounded

    def _forget(self, most: int) -> None:
        """Forget so many reserved pairs before the floor, which cannot be assigned any more."""
        end = self.floor * (MAX_INTEGER + 1)
        while most and self._oldest and self._oldest[0] < end:
            code = heappop(self._oldest)
            self._reserved.remove(code)
            timestamp, hash_ = divmod(code, MAX_INTEGER + 1)
            if self._newest[hash_] == timestamp:
                del self._newest[hash_]
            most -= 1
