"""Timestamps: what they remember stays bounded, also while the clock is behind them."""

from __future__ import annotations

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.timestamps import MOST_PER_MS, Timestamps


def test_a_clock_that_stands_still_gives_no_more_than_so_many_pairs_a_millisecond() -> None:
    timestamps = Timestamps(SimulatedClock(0), floor=5_000)
    pairs = [timestamps.next(n) for n in range(3 * MOST_PER_MS)]
    assert pairs == sorted(pairs)
    assert [pair.timestamp for pair in pairs[::MOST_PER_MS]] == [5_000, 5_001, 5_002]
    assert len(timestamps._used) <= MOST_PER_MS


def test_the_clock_leads_again_once_it_has_caught_up() -> None:
    clock = SimulatedClock(0)
    timestamps = Timestamps(clock, floor=5_000)
    for n in range(MOST_PER_MS + 1):
        timestamps.next(n)
    clock.set(9_000)
    assert timestamps.next(1).timestamp == 9_000
