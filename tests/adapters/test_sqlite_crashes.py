"""A process that ends at any write of a SQLite store loses no confirmed record."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from portable_core.adapters.sqlite import SqliteStore, files, places
from portable_core.ports import BEGINNING
from portable_core.records import MAX_INTEGER
from portable_core.sync.repair import Repair
from tests.support.stores.crashes import CRASHED, crash_at, run_in_child
from tests.support.stores.samples import DAY, HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import opened, read_timestamps, wait_until_checked


def use_as_a_node(path: Path, confirm: Callable[[str], object]) -> None:
    """Append to hours in every order; close, reopen and remove files.

    A reader follows the order of arrival: ``confirm`` gets each timestamp that was stored, and a
    line with the reader's position and the timestamps that it has read.
    """
    timestamp, position = NOON, BEGINNING
    for last in (False, True):
        with opened(path) as store:
            for hour in (0, 1, 0, 2, 3, 1, 4):
                timestamp += 1
                store.append([make_record(timestamp + hour * HOUR), make_record(timestamp)])
                confirm(f"{timestamp + hour * HOUR}")
                confirm(f"{timestamp}")
                arrivals = list(store.arrivals(position))
                position = arrivals[-1].position
                read = " ".join(str(arrival.record.pair.timestamp) for arrival in arrivals)
                confirm(f"read {position} {read}")
                if hour % 2:
                    store.raise_mark("horizon", timestamp)
            if last:
                store.prune(NOON - HOUR)


class Outcome(NamedTuple):
    """What a process did before it ended.

    ``read``: the timestamps that its reader has read, in order, up to ``position``. ``ended``:
    whether the process came to its end.
    """

    confirmed: set[int]
    read: list[int]
    position: str
    ended: bool


def run_until_crash(path: Path, step: int, *, after: bool, tick_ns: int) -> Outcome:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child must not run anything of pytest
        try:
            files.TICK_NS = tick_ns
            places._BLOCK = 5  # places are reserved every few records
            crash_at(step, after=after)
            use_as_a_node(path, lambda line: os.write(writing, f"{line}\n".encode()))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    confirmed: set[int] = set()
    read: list[int] = []
    position = BEGINNING
    with os.fdopen(reading, "r") as pipe:
        for line in pipe:
            if line.startswith("read "):
                _, position, *timestamps = line.split()
                read += map(int, timestamps)
            else:
                confirmed.add(int(line))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, CRASHED)
    return Outcome(confirmed, read, position, code == 0)


def check_order(store: SqliteStore, outcome: Outcome, timestamp: int) -> None:
    """Assert that the reader continues where it was: nothing twice, nothing before its position."""
    store.append([make_record(timestamp)])
    rest = [arrival.record.pair.timestamp for arrival in store.arrivals(outcome.position)]
    order = [arrival.record.pair.timestamp for arrival in store.arrivals()]
    assert order == outcome.read + rest
    assert sorted(order) == read_timestamps(store)
    assert rest[-1] == timestamp


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.deep)])
@pytest.mark.parametrize(
    ("after", "tick_ns"),
    [
        (False, files.TICK_NS),
        (True, -1),  # as if every file had been closed long before it is written again
    ],
)
def test_a_crash_at_any_write_loses_nothing(
    tmp_path: Path, after: bool, tick_ns: int, every: int
) -> None:
    step, ended = 1, False
    while not ended:
        path = tmp_path / str(step)
        outcome = run_until_crash(path, step, after=after, tick_ns=tick_ns)
        confirmed, ended = outcome.confirmed, outcome.ended
        for later in (1, 2):
            with opened(path) as store:
                check_order(store, outcome, NOON + DAY + later)
                assert confirmed <= set(read_timestamps(store))
                wait_until_checked(store)
                assert confirmed <= set(read_timestamps(store))
                assert store.status().damaged == ()
                assert store.info().generation == 1
        step += every
    assert step > 100


# -- a repair ----------------------------------------------------------------------------------


def repair_until_crash(path: Path, step: int, *, after: bool) -> bool:
    """Return whether the process came to the end of the repair."""

    def repair() -> None:
        crash_at(step, after=after)
        with opened(path) as store:
            Repair(store, NOON, 120_000).run()

    return run_in_child(repair)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_a_crash_at_any_write_of_a_repair_loses_and_doubles_nothing(
    tmp_path: Path, after: bool, every: int
) -> None:
    right = [make_record(NOON - HOUR + n * 200_000, n) for n in range(20)]
    ahead = [make_record(NOON + 60_000 + n * 400_000, 100 + n) for n in range(20)]
    hashes = sorted(record.pair.hash for record in [*right, *ahead])
    step, ended = 1, False
    while not ended:
        path = tmp_path / str(step)
        with opened(path) as store:
            store.append([*right, *ahead])
        ended = repair_until_crash(path, step, after=after)
        with opened(path) as store:
            Repair(store, NOON + 7_000, 120_000).run()
        for _ in range(2):
            with opened(path) as store:
                pairs = list(store.pairs(0, MAX_INTEGER))
                assert sorted(pair.hash for pair in pairs) == hashes, step
                assert pairs[-1].timestamp <= NOON + 30_000
                assert store.status().damaged == ()
                assert store.status().records == len(pairs)
                assert store.losses() == []
        step += every
    assert step > 15
