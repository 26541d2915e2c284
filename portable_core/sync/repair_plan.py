"""How the records of a repair are moved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from portable_core.ports import Milliseconds
from portable_core.records import Pair

#: The longest pause between two records that is kept without a given offset.
_LONGEST_PAUSE_MS = 86_400_000


class Shifts:
    """How far the records from certain times on are moved back."""

    def __init__(self, starts: list[Milliseconds], shifts: list[Milliseconds]) -> None:
        self._starts = starts
        self._shifts = shifts

    def move(self, pair: Pair) -> Pair:
        """Return the new pair of a record; two records never get the same one."""
        index = bisect_right(self._starts, pair.timestamp) - 1
        return Pair(pair.timestamp - self._shifts[index], pair.hash)


class Ahead(NamedTuple):
    """The records that are ahead: their number, the first and last time, and how they move."""

    records: int
    first: Milliseconds
    last: Milliseconds
    shifts: Shifts


def plan_shifts(
    timestamps: Iterable[Milliseconds], now: Milliseconds, offset: Milliseconds
) -> Ahead | None:
    """Return how records with these timestamps, in order, are moved; None if there is none.

    ``offset`` is subtracted unless it is 0; otherwise the last one gets the time ``now``.
    """
    count, first, last = 0, None, 0
    starts: list[Milliseconds] = []
    excesses: list[Milliseconds] = []
    for timestamp in timestamps:
        pause = timestamp - last
        if first is None:
            first = timestamp
            starts.append(timestamp)
        elif not offset and pause > _LONGEST_PAUSE_MS:
            starts.append(timestamp)
            excesses.append(pause - _LONGEST_PAUSE_MS)
        count, last = count + 1, timestamp
    if first is None:
        return None
    shift = offset or last - now
    shifts = [shift]
    for excess in reversed(excesses):
        shift -= excess
        shifts.insert(0, shift)
    return Ahead(count, first, last, Shifts(starts, shifts))
