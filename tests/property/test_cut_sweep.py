"""A sync is correct after a cut at any byte and a crash at any step.

After each accident syncs run to the end: everything is represented, nothing needless was fetched,
no cursor was ever past what is durable, and next to nothing was sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from loadtests.simulation.nodes import CoreParts
from portable_core.wire.negotiation import ENCODINGS
from tests.support.laws import simulation_mutants as mutants
from tests.support.laws.clock_mutants import Mutant
from tests.support.laws.cut_sweep import (
    MANY_WINDOWS_S,
    MISSING,
    MOST_UNSAVED,
    ONE_WINDOW_S,
    SAMPLES,
    Totals,
    Trial,
    cut,
    kill,
    make_faults,
    measure,
)

encodings = pytest.mark.parametrize("media_type", ENCODINGS)

#: Each test takes every tenth byte, so that processes can share the work; most are deep.
_SHARES = 10
_shares = [0, *(pytest.param(share, marks=pytest.mark.deep) for share in range(1, _SHARES))]


@encodings
def test_the_uncut_sync_is_what_the_sweep_assumes(media_type: str) -> None:
    request, answer = measure(media_type)
    assert request > 10 * len(SAMPLES.ours)
    assert answer > 60 * MISSING
    trial = Trial(CoreParts(), media_type)
    assert not trial.run().wrong
    assert trial.received == MISSING


@encodings
def test_request_cut_after_every_byte(media_type: str) -> None:
    totals = cut(media_type, make_faults(media_type, "request"))
    print(f"\n{media_type}, request: {totals}")
    assert totals.counts["cuts"] == measure(media_type)[0]
    _check(totals, most_again=0)


@encodings
@pytest.mark.parametrize("share", _shares)
def test_answer_cut_after_every_byte(media_type: str, share: int) -> None:
    faults = islice(make_faults(media_type, "answer"), share, None, _SHARES)
    totals = cut(media_type, faults)
    print(f"\n{media_type}, answer, share {share + 1} of {_SHARES}: {totals}")
    assert totals.counts["cuts"] == len(range(share, measure(media_type)[1], _SHARES))
    _check(totals, most_again=0)


@encodings
@pytest.mark.parametrize("window_s", [ONE_WINDOW_S, MANY_WINDOWS_S])
def test_master_killed_at_every_write(media_type: str, window_s: int) -> None:
    totals = kill(media_type, window_s)
    print(f"\n{media_type}, windows of {window_s} s: {totals}")
    assert totals.counts["kills"] > 3 * 20
    _check(totals, most_again=MOST_UNSAVED)


def _check(totals: Totals, most_again: int) -> None:
    assert not totals.wrong, str(totals)
    assert totals.most_again <= most_again, str(totals)


# -- the sweep can tell ----------------------------------------------------------------------------


def _cut_some(direction: str) -> Callable[[str, CoreParts], Totals]:
    def run(media_type: str, parts: CoreParts) -> Totals:
        return cut(media_type, islice(make_faults(media_type, direction), 1, None, 37), parts)

    return run


def _kill(media_type: str, parts: CoreParts) -> Totals:
    return kill(media_type, ONE_WINDOW_S, parts)


@encodings
@pytest.mark.parametrize(
    ("mutant", "sweep", "wrong"),
    [
        (mutants.truncated_request_as_whole, _cut_some("request"), "needless"),
        (mutants.cut_answer_as_whole, _cut_some("answer"), "lost"),
        (mutants.cursor_before_records, _cut_some("answer"), "past durable"),
        (mutants.cursor_before_records, _kill, "lost"),
        (mutants.reached_before_saved, _cut_some("answer"), "lost"),
    ],
)
def test_a_removed_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    media_type: str,
    mutant: Mutant,
    sweep: Callable[[str, CoreParts], Totals],
    wrong: str,
) -> None:
    assert sweep(media_type, mutant(monkeypatch)).counts[wrong] > 0
