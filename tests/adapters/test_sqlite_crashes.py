"""A process that ends at any write of a SQLite store loses no confirmed record."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import files
from portable_core.adapters.sqlite.writer import Writer
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import opened, read_timestamps, wait_until_checked

_CRASHED = 7


def use_as_a_node(path: Path, confirm: Callable[[int], object]) -> None:
    """Append to hours in every order; close, reopen and remove files."""
    timestamp = NOON
    for last in (False, True):
        with opened(path) as store:
            for hour in (0, 1, 0, 2, 3, 1, 4):
                timestamp += 1
                store.append([make_record(timestamp + hour * HOUR), make_record(timestamp)])
                confirm(timestamp + hour * HOUR)
                confirm(timestamp)
                if hour % 2:
                    store.raise_mark("horizon", timestamp)
            if last:
                store.prune(NOON - HOUR)


def crash_at(step: int, *, after: bool) -> None:
    """End this process before or after the writers have executed so many lists of statements."""
    run, left = Writer._run, step

    def run_and_crash(self: Writer, statements: Any, until: float) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os._exit(_CRASHED)
        rows = run(self, statements, until)
        if left == 0:
            os._exit(_CRASHED)
        return rows

    Writer._run = run_and_crash  # type: ignore[method-assign]  # only in a child process


def run_until_crash(path: Path, step: int, *, after: bool, tick_ns: int) -> tuple[set[int], bool]:
    """Return the confirmed timestamps, and whether the process came to its end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child must not run anything of pytest
        try:
            files.TICK_NS = tick_ns
            crash_at(step, after=after)
            use_as_a_node(path, lambda timestamp: os.write(writing, b"%d\n" % timestamp))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        confirmed = {int(line) for line in pipe.read().split()}
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, _CRASHED)
    return confirmed, code == 0


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
        confirmed, ended = run_until_crash(path, step, after=after, tick_ns=tick_ns)
        for _ in range(2):
            with opened(path) as store:
                assert confirmed <= set(read_timestamps(store))
                wait_until_checked(store)
                assert confirmed <= set(read_timestamps(store))
                assert store.status().damaged == ()
                assert store.info().generation == 1
        step += every
    assert step > 100
