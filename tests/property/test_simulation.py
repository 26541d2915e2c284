"""Simulated histories with accidents of every kind: the promises hold in each.

A failure names its seed. ``make simulate`` runs thousands.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from loadtests.simulation.conditions import THEMES
from loadtests.simulation.history import run_history
from loadtests.simulation.oracle import Violation

#: Histories in one test; each test has other seeds, and most are deep.
_HISTORIES = 8
_tests = [0, *(pytest.param(test, marks=pytest.mark.deep) for test in range(1, 5))]

#: What has to happen in some of the histories, or they would prove little.
_EXPECTED = ("acknowledged", "syncs", "fetched")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the nodes, which warn of every simulated accident."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("test", _tests)
def test_no_promise_is_broken(theme: str, test: int) -> None:
    counts: Counter[str] = Counter()
    first = 10_000 + test * _HISTORIES
    for seed in range(first, first + _HISTORIES):
        try:
            counts += run_history(seed, theme=theme).counts
        except Violation as violation:
            pytest.fail(f"seed {seed}, theme {theme!r}: {violation}")
    print(f"\n{_HISTORIES} histories of {theme!r}, violations 0: {dict(counts)}")
    assert all(counts[name] for name in _EXPECTED), counts


def test_a_seed_repeats_its_history() -> None:
    assert run_history(3).counts == run_history(3).counts
    assert run_history(3).counts != run_history(4).counts
