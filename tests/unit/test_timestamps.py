"""What the stamps remember stays bounded, also while the clock is behind them."""

from __future__ import annotations

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.timestamps import MOST_PER_MS, Timestamps


def test_a_clock_that_stands_still_gives_no_more_than_so_many_stamps_a_millisecond() -> None:
    stamps = Timestamps(SimulatedClock(0), floor=5_000)
    pairs = [stamps.next(n) for n in range(3 * MOST_PER_MS)]
    assert pairs == sorted(pairs)
    assert [pair.timestamp for pair in pairs[::MOST_PER_MS]] == [5_000, 5_001, 5_002]
    assert len(stamps._taken) <= MOST_PER_MS


def test_the_clock_leads_again_once_it_has_caught_up() -> None:
    clock = SimulatedClock(0)
    stamps = Timestamps(clock, floor=5_000)
    for n in range(MOST_PER_MS + 1):
        stamps.next(n)
    clock.set(9_000)
    assert stamps.next(1).timestamp == 9_000
