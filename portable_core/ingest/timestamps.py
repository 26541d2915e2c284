"""The timestamps that a node assigns: they never decrease, and no pair is assigned twice."""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.ports import Clock, Milliseconds
from portable_core.records import Pair

#: The most pairs of one millisecond. Only while the clock is behind could there be more, and all of
#: them are remembered until the next millisecond.
MOST_PER_MS = 1_000


class Timestamps:
    """For one thread at a time. ``floor`` is the first timestamp that may still be assigned."""

    def __init__(self, clock: Clock, floor: Milliseconds) -> None:
        self._clock = clock
        self.floor = floor
        self._assigned = 0  # at the floor
        self._used: set[Pair] = set()  # at the floor and after it

    def next(self, hash_: int) -> Pair:
        """Return a pair of the clock's time, or the first one after it that is unused."""
        now = self._clock.now()
        if now > self.floor:
            self.raise_floor(now)
        elif self._assigned >= MOST_PER_MS:
            self.raise_floor(self.floor + 1)
        self._assigned += 1
        pair = Pair(self.floor, hash_)
        while pair in self._used:
            pair = Pair(pair.timestamp + 1, hash_)
        self.raise_floor(pair.timestamp)
        self._used.add(pair)
        return pair

    def raise_floor(self, floor: Milliseconds) -> None:
        """Assign no timestamp before ``floor`` from now on."""
        if floor > self.floor:
            self.floor, self._assigned = floor, 0
            self._used = {pair for pair in self._used if pair.timestamp >= floor}

    def reserve(self, pairs: Iterable[Pair]) -> None:
        """Never assign these pairs."""
        self._used.update(pair for pair in pairs if pair.timestamp >= self.floor)
