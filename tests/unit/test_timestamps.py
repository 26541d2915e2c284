"""Timestamps: memory and the cost of a call are bounded, whatever clock and reservations do."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import BufferFull
from portable_core.ingest.timestamps import MOST_PER_MS, Timestamps
from portable_core.records import Pair


def test_a_clock_that_stands_still_gives_no_more_than_so_many_pairs_a_millisecond() -> None:
    timestamps = Timestamps(SimulatedClock(0), floor=5_000)
    pairs = [timestamps.next(n) for n in range(3 * MOST_PER_MS)]
    assert pairs == sorted(pairs)
    assert [pair.timestamp for pair in pairs[::MOST_PER_MS]] == [5_000, 5_001, 5_002]
    assert len(timestamps._hashes) <= MOST_PER_MS


def test_the_clock_leads_again_once_it_has_caught_up() -> None:
    clock = SimulatedClock(0)
    timestamps = Timestamps(clock, floor=5_000)
    for n in range(MOST_PER_MS + 1):
        timestamps.next(n)
    clock.set(9_000)
    assert timestamps.next(1).timestamp == 9_000


# -- reserved pairs --------------------------------------------------------------------------------


def count_steps(call: Callable[[], object]) -> int:
    """Return how many instructions of the interpreter a call needs, those of C code aside."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps


def spread(count: int) -> list[Pair]:
    """Pairs of a minute from 5,000 on, as a hand-over of a slave whose clock is ahead brings."""
    choice = random.Random(1)
    return [Pair(5_000 + 60_000 * n // count, choice.getrandbits(32)) for n in range(count)]


def run(count: int) -> list[Pair]:
    """Pairs with one hash and every millisecond from 5,000 on."""
    return [Pair(5_000 + n, 7) for n in range(count)]


@pytest.mark.parametrize("make", [spread, run])
@pytest.mark.parametrize("passed", [0, 1, 30_000, 90_000])
def test_a_call_costs_the_same_whatever_is_reserved(
    make: Callable[[int], list[Pair]], passed: int
) -> None:
    def count(reserved: list[Pair]) -> int:
        clock = SimulatedClock(4_990)
        timestamps = Timestamps(clock, floor=0)
        timestamps.reserve(reserved)
        clock.set(5_000 + passed)

        def call() -> None:
            with suppress(BufferFull):  # a run of reserved pairs is too long to be passed over
                timestamps.next(7)

        return max(count_steps(call) for _ in range(5))

    assert count(make(100_000)) <= count([]) + 5_000


def test_reserved_pairs_are_forgotten_once_their_time_has_passed() -> None:
    clock = SimulatedClock(0)
    timestamps = Timestamps(clock, floor=0)
    most = 0
    for second in range(1_000):
        clock.set(1_000 * second)
        timestamps.next(7)
        timestamps.reserve([Pair(1_000 * second + n, n) for n in range(100)])
        most = max(most, len(timestamps._reserved))
    assert most <= 400
    for n in range(100):
        clock.set(2_000_000 + n)
        timestamps.next(7)
    assert not timestamps._reserved
    assert not timestamps._oldest
    assert not timestamps._newest


def test_the_first_pair_after_a_long_run_of_reserved_ones_is_assigned() -> None:
    timestamps = Timestamps(SimulatedClock(5_500), floor=0)
    timestamps.reserve([*run(1_000), Pair(9_000, 8)])
    assert timestamps.next(7) == Pair(6_000, 7)
    assert timestamps.next(8) == Pair(6_000, 8)
