"""Syncs that a master starts by itself: when, by which instance, and after failures."""

from __future__ import annotations

from itertools import pairwise

import pytest

from portable_core.errors import LeaseHeld, StoreError
from portable_core.sync.report import SyncReport
from portable_core.sync.schedule import SyncSchedule
from tests.unit.test_master_turns import Rig

EVERY_MS = 60_000


def make(rig: Rig) -> tuple[SyncSchedule, list[int]]:
    """Return a schedule of the rig's present master, and the times of its syncs."""
    master, synced = rig.master, []
    sync = master.sync

    def note() -> SyncReport:
        synced.append(rig.clock.now())
        return sync()

    master.sync = note  # type: ignore[method-assign,assignment]  # notes the time
    return SyncSchedule(master, rig.clock, EVERY_MS), synced


def run(rig: Rig, seconds: float, *schedules: SyncSchedule) -> None:
    """Run the schedules in turn, each when it wants to."""
    due = dict.fromkeys(schedules, 0.0)
    end = rig.clock.monotonic() + seconds
    while rig.clock.monotonic() < end:
        for schedule in schedules:
            if due[schedule] <= rig.clock.monotonic():
                due[schedule] = rig.clock.monotonic() + max(0.05, schedule.step())
        rig.clock.sleep(0.05)


def test_a_master_syncs_at_once_and_then_every_minute() -> None:
    rig = Rig({"a": 0, "b": 0})
    schedule, synced = make(rig)
    run(rig, 305, schedule)
    gaps = [later - earlier for earlier, later in pairwise(synced)]
    assert len(synced) == 6
    assert all(EVERY_MS <= gap < EVERY_MS + 500 for gap in gaps)


def test_a_sync_that_takes_longer_than_the_period_is_followed_by_the_next() -> None:
    rig = Rig({"a": 1})
    schedule, synced = make(rig)
    run(rig, 500, schedule)
    assert len(synced) >= 3


def test_instances_share_the_work() -> None:
    rig = Rig({"a": 0, "b": 0})
    schedules, times = [], []
    for _ in range(3):
        schedule, synced = make(rig)
        schedules.append(schedule)
        times.append(synced)
        rig.start_master()
    run(rig, 305, *schedules)
    assert sum(map(len, times)) == 6
    # Another instance goes on where one ends.
    busiest = max(range(3), key=lambda number: len(times[number]))
    del schedules[busiest]
    rest = [synced for number, synced in enumerate(times) if number != busiest]
    before = sum(map(len, rest))
    run(rig, 305, *schedules)
    assert sum(map(len, rest)) - before >= 5


@pytest.mark.parametrize("error", [LeaseHeld("held"), StoreError("gone"), ValueError("a defect")])
def test_a_failed_sync_is_retried(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig({"a": 0})
    failures = [error] * 3
    sync, schedule = rig.master.sync, SyncSchedule(rig.master, rig.clock, EVERY_MS)

    def fail_first() -> SyncReport:
        if failures:
            raise failures.pop()
        return sync()

    rig.master.sync = fail_first  # type: ignore[method-assign,assignment]  # fails three times
    run(rig, 200, schedule)
    assert rig.state("a").report
    lines = [record for record in caplog.records if "scheduled sync" in record.message]
    assert len(lines) == {LeaseHeld: 0, StoreError: 1, ValueError: 3}[type(error)]


def test_a_date_that_jumps_back_stops_no_sync() -> None:
    rig = Rig({"a": 0})
    schedule, synced = make(rig)
    run(rig, 10, schedule)
    rig.clock.set(rig.clock.now() - 3_600_000)
    run(rig, 120, schedule)
    assert len(synced) >= 2


def test_a_stop_ends_the_thread() -> None:
    rig = Rig({"a": 0})
    schedule, synced = make(rig)
    rig.master.stop()
    schedule.run()
    assert synced == []
