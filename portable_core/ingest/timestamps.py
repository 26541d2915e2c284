"""The timestamps that a node gives: they never decrease, and no pair is given twice."""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.ports import Clock, Milliseconds
from portable_core.records import Pair

#: The most stamps of one millisecond. There would be more only while the clock is behind them, and
#: all of them are remembered until the next millisecond.
MOST_PER_MS = 1_000


class Timestamps:
    """For one thread at a time. ``floor`` is the first timestamp that may still be given."""

    def __init__(self, clock: Clock, floor: Milliseconds) -> None:
        self._clock = clock
        self.floor = floor
        self._given = 0  # at the floor
        self._taken: set[Pair] = set()  # at the floor and after it

    def next(self, hash_: int) -> Pair:
        """A pair of now; a millisecond later as often as it is taken."""
        now = self._clock.now()
        if now > self.floor:
            self.raise_floor(now)
        elif self._given >= MOST_PER_MS:
            self.raise_floor(self.floor + 1)
        self._given += 1
        pair = Pair(self.floor, hash_)
        while pair in self._taken:
            pair = Pair(pair.timestamp + 1, hash_)
        self.raise_floor(pair.timestamp)
        self._taken.add(pair)
        return pair

    def raise_floor(self, floor: Milliseconds) -> None:
        """Give no timestamp before ``floor``."""
        if floor > self.floor:
            self.floor, self._given = floor, 0
            self._taken = {pair for pair in self._taken if pair.timestamp >= floor}

    def reserve(self, pairs: Iterable[Pair]) -> None:
        """Never give these pairs."""
        self._taken.update(pair for pair in pairs if pair.timestamp >= self.floor)
