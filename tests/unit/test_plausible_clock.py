"""Which readings of a clock a node uses."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.plausible_clock import ClockDeviation, PlausibleClock

START = 1_700_000_000_000
SPAN = 120_000
LIMIT = SPAN // 4
YEAR = 365 * 86_400_000


class Rig:
    """A clock whose error is ``error`` milliseconds."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(START)
        self.plausible = PlausibleClock(self.clock, SPAN)
        self.true = START
        self.error = 0
        assert self.plausible.now() == START

    def advance(self, milliseconds: int) -> None:
        self.clock.sleep(milliseconds / 1000)
        self.true += milliseconds

    def set_error(self, error: int) -> None:
        self.error = error
        self.clock.set(self.true + error)

    def read_error(self) -> int:
        """Return how far the used date is from the true one."""
        return self.plausible.now() - self.true


@pytest.mark.parametrize(
    ("step", "used_at_once"),
    [
        (1, 1),
        (LIMIT, LIMIT),
        (LIMIT + 2, 0),
        (YEAR, 0),
        (-1, -1),
        (-LIMIT - 2, -LIMIT - 2),
        (-YEAR, -YEAR),
    ],
)
def test_a_step(step: int, used_at_once: int) -> None:
    rig = Rig()
    rig.set_error(step)
    for _ in range(10):
        assert abs(rig.read_error() - used_at_once) <= 1
        rig.advance(SPAN // 10)
    rig.advance(2)
    assert rig.read_error() == step  # after more than a span it is no fault of a moment


@pytest.mark.parametrize("error", [YEAR, LIMIT + 2, -YEAR, -LIMIT - 2])
def test_a_wrong_reading_has_no_effect_once_it_is_over(error: int) -> None:
    rig = Rig()
    for _ in range(5):
        rig.advance(100)
        rig.set_error(error)
        rig.read_error()
        rig.advance(500)
        rig.read_error()
        rig.set_error(0)
        assert rig.read_error() == 0
        assert rig.plausible.find_deviation() is None


def test_a_wrong_reading_after_a_step_back_does_not_undo_the_step() -> None:
    rig = Rig()
    rig.set_error(-3 * SPAN)  # as an operator corrects a clock that was ahead
    assert rig.read_error() == -3 * SPAN
    rig.advance(1_000)
    rig.set_error(YEAR)
    assert rig.read_error() == -3 * SPAN
    rig.advance(500)
    assert rig.read_error() == -3 * SPAN
    rig.set_error(-3 * SPAN)
    assert rig.read_error() == -3 * SPAN


def test_two_unlike_faults_are_not_one_that_lasts() -> None:
    rig = Rig()
    for error in (YEAR, 2 * YEAR, YEAR, 3 * YEAR):
        rig.set_error(error)
        assert abs(rig.read_error()) <= 1
        rig.advance(SPAN + 1)


def test_many_small_steps_do_not_add_up() -> None:
    rig = Rig()
    for number in range(1, 101):
        rig.advance(10)
        rig.set_error(number * (LIMIT - 1))
        assert rig.read_error() <= 2 * LIMIT
    rig.set_error(0)
    assert rig.read_error() == 0


def test_a_clock_that_runs_fast_is_followed() -> None:
    rig = Rig()
    for _ in range(1000):  # a tenth too fast, for twenty spans
        rig.advance(SPAN // 50)
        rig.set_error(rig.error + SPAN // 500)
        assert rig.read_error() == rig.error
    assert rig.plausible.find_deviation() is None


@pytest.mark.parametrize(
    ("peer", "used"), [(YEAR, True), (YEAR - LIMIT, True), (YEAR + LIMIT + 1, False), (0, False)]
)
def test_a_peer_confirms_what_the_own_clock_reads(peer: int, used: bool) -> None:
    rig = Rig()
    rig.set_error(YEAR)
    rig.read_error()
    rig.plausible.confirm(rig.true + peer)
    assert rig.read_error() == (YEAR if used else 0)


def test_a_peer_alone_moves_nothing() -> None:
    rig = Rig()
    for peer in (YEAR, -YEAR, LIMIT):
        rig.plausible.confirm(rig.true + peer)
        assert rig.read_error() == 0
        assert rig.plausible.find_deviation() is None


def test_the_deviation_is_visible_and_each_change_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    with caplog.at_level(logging.INFO):
        rig.set_error(YEAR)
        for _ in range(3):
            rig.read_error()
        rig.advance(5_000)
        assert rig.plausible.find_deviation() == ClockDeviation(YEAR, START)
        assert rig.plausible.read() == START + YEAR + 5_000
        rig.set_error(0)
        for _ in range(3):
            rig.read_error()
        assert rig.plausible.find_deviation() is None
    lines: Sequence[str] = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, lines
    assert f"{YEAR} ms ahead" in lines[0]
    assert "plausible again" in lines[1]
