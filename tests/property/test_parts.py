"""A window that is compared by parts gives what the whole gives, and every plan of parts ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.ports import ALL_HASHES, HashRange, PartState, SlaveState
from portable_core.records import Pair
from portable_core.sync.parts import expect_collisions, select_pairs, thin_pairs
from portable_core.sync.reconcile import find_missing
from portable_core.sync.windows import Step, WindowLimits, WindowPlan
from tests.property.test_reconcile import represented

START = 100
HASHES = 16

hashes = st.integers(0, HASHES - 1)
ours_sets = st.sets(st.builds(Pair, st.integers(START, START + 12), hashes), max_size=30)
theirs_lists = st.lists(st.builds(Pair, st.integers(START - 20, START + 40), hashes), max_size=60)
spans = st.integers(0, 12)
bounds = st.sets(st.integers(1, HASHES), max_size=4)


def divide(bounds: set[int]) -> list[HashRange]:
    places = sorted({0, *bounds, ALL_HASHES.end})
    return [HashRange(a, b) for a, b in pairwise(places)]


@given(ours_sets, theirs_lists, spans, bounds)
def test_parts_find_what_the_oracle_finds(
    ours: set[Pair], theirs: list[Pair], span: int, bounds: set[int]
) -> None:
    window = [pair for pair in sorted(ours) if pair.timestamp <= START + span]
    theirs = sorted(theirs, key=lambda pair: pair.timestamp)
    found: list[Pair] = []
    for part in divide(bounds):
        near = [p for p in theirs if START - span <= p.timestamp <= START + 2 * span]
        sent = list(thin_pairs(select_pairs(near, part), START))
        assert all(pair.hash in part for pair in sent)
        assert sent == sorted(sent, key=lambda pair: pair.timestamp)
        assert all(sum(pair.hash == hash_ for pair in sent) <= 2 for hash_ in range(HASHES))
        for run in find_missing(select_pairs(window, part), [sent], span, max_held=2 * HASHES):
            found += run
    assert sorted(found) == [p for p in window if not represented(p, theirs, span)]


# -- plans -----------------------------------------------------------------------------------------


class Crowd(NamedTuple):
    """A slave's and a master's pairs, and the most pairs of a request that get through."""

    pairs: list[Pair]
    most: int
    cut_after: int


def list_pairs(crowd: Crowd, step: Step, span: int) -> list[Pair]:
    near = (p for p in crowd.pairs if step.start - span <= p.timestamp < step.end + span)
    selected = select_pairs(near, step.hashes)
    return list(thin_pairs(selected, step.start) if step.is_part else selected)


def run_plan(
    crowd: Crowd,
    limits: WindowLimits,
    end: int,
    forget: Callable[[int], bool] = lambda number: False,
) -> int:
    """Follow a plan to ``end``, through its saved state where ``forget`` says so.

    Returns the number of requests. The pairs that were compared are marked one by one; none may
    remain before the cursor.
    """
    state = SlaveState(cursor=0, window=limits.longest)
    plan, compared, requests = WindowPlan(state, limits), set[Pair](), 0
    while plan.cursor < end:
        requests += 1
        assert requests < 5_000, "the plan does not end"
        step = plan.choose(end)
        assert plan.cursor == step.start < step.end <= end
        if step.is_part:
            assert step.end - step.start <= limits.span + 1
        pairs = list_pairs(crowd, step, limits.span)
        sent = len(pairs)
        if step.limit is not None and sent > step.limit:
            assert plan.reduce(step, step.limit, pairs[step.limit].timestamp)
        elif sent > crowd.most:
            assert plan.reduce(step, sent), "a request that cannot become smaller is too large"
        else:
            reached = step.end
            if requests % crowd.cut_after == 0:
                reached = step.start + (step.end - step.start) // 2
            compared.update(
                p
                for p in crowd.pairs
                if step.start <= p.timestamp < reached and p.hash in step.hashes
            )
            if reached > step.start:
                plan.advance(step, reached, sent)
            else:
                plan.lighten(step)
        lacking = [p for p in crowd.pairs if p.timestamp < plan.cursor and p not in compared]
        assert not lacking, f"{lacking[0]} is before the cursor"
        state = plan.apply_to(state)
        if state.part is not None and state.part.done:
            part = state.part
            assert all(
                p in compared
                for p in crowd.pairs
                if part.start <= p.timestamp < part.end and p.hash < part.done
            )
        if forget(requests):
            plan = WindowPlan(state, limits)
    return requests


crowds = st.builds(
    Crowd,
    st.lists(st.builds(Pair, st.integers(0, 60), hashes), max_size=80).map(sorted),
    st.integers(2, 40),
    st.integers(2, 9),
)


@given(crowds, st.integers(1, 20), st.integers(1, 100), st.sets(st.integers(1, 200)))
def test_every_plan_ends_and_skips_nothing(
    crowd: Crowd, span: int, pairs: int, forgotten: set[int]
) -> None:
    limits = WindowLimits(longest=64, span=span, pairs=pairs, bits=4, ranges=True)
    run_plan(crowd, limits, 61, lambda number: number in forgotten)


def test_a_dense_range_of_hashes_does_not_slow_the_rest_down() -> None:
    """Hashes can be chosen by the sender: 1,000 of 2**32 next to each other, and few elsewhere."""
    dense = [Pair(50, 7 + number) for number in range(1000)]
    sparse = [Pair(50, number << 22) for number in range(1, 1000)]
    limits = WindowLimits(longest=1000, span=100, pairs=500, bits=32, ranges=True)
    requests = run_plan(Crowd(sorted(dense + sparse), 500, 10_000), limits, 100)
    assert requests < 120


def test_the_parts_of_a_crowd_are_few() -> None:
    """15 times as many pairs as a request may have: some 20 parts, and few requests in vain."""
    pairs = sorted(Pair(number % 200, number * 2_654_435_761 % 2**32) for number in range(15_000))
    limits = WindowLimits(longest=1000, span=100, pairs=1000, bits=32, ranges=True)
    assert run_plan(Crowd(pairs, 1000, 10_000), limits, 100) < 40


def test_without_ranges_windows_shrink_to_a_millisecond_and_no_further() -> None:
    limits = WindowLimits(longest=64, span=10, pairs=5, bits=4, ranges=False)
    plan = WindowPlan(SlaveState(cursor=0, window=64), limits)
    for length in (30, 15, 7, 3, 1):
        assert plan.reduce(plan.choose(61), 99)
        assert plan.choose(61) == Step(0, length, ALL_HASHES, 5 if length > 1 else None, 10)
    assert not plan.reduce(plan.choose(61), 99)


@pytest.mark.parametrize(
    "part",
    [
        PartState(start=4, end=9, done=8, width=2, pairs=5),  # of another cursor
        PartState(start=5, end=5, done=8, width=2, pairs=5),
        PartState(start=5, end=9, done=16, width=2, pairs=5),
        PartState(start=5, end=9, done=99, width=2, pairs=5),
    ],
)
def test_progress_that_does_not_belong_to_the_cursor_is_dropped(part: PartState) -> None:
    limits = WindowLimits(longest=64, span=10, pairs=5, bits=4, ranges=True)
    step = WindowPlan(SlaveState(cursor=5, window=8, part=part), limits).choose(61)
    assert step.hashes == HashRange(0, 2)
    kept = PartState(5, 9, 8, 2, 5)
    step = WindowPlan(SlaveState(cursor=5, window=8, part=kept), limits).choose(61)
    assert (step.end, step.hashes) == (9, HashRange(8, 10))


def test_a_slave_without_ranges_is_never_asked_for_a_part() -> None:
    limits = WindowLimits(longest=64, span=10, pairs=5, bits=4, ranges=False)
    state = SlaveState(cursor=5, window=8, part=PartState(5, 9, 8, 2, 5))
    plan = WindowPlan(state, limits)
    assert plan.choose(61).hashes == ALL_HASHES
    assert plan.apply_to(state).part is None


# -- collisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [120_000, 3_600_000])
def test_expected_collisions_of_a_crowd_within_two_spans(span: int) -> None:
    """n webhooks within two spans: n**2 / 2**33 under 32 bits; 262 for 1.5 million."""
    assert expect_collisions(1_500_000, 2 * span, span, 2**32) == pytest.approx(1.5e6**2 / 2**33)
    assert expect_collisions(1_500_000, 2 * span, span, 2**32) == pytest.approx(262, abs=1)
    assert expect_collisions(1_500_000, 2 * span, span, 2**53) < 0.001


def test_parts_expect_as_many_collisions_as_the_whole() -> None:
    whole = expect_collisions(1_000_000, 360_000, 120_000, 2**32)
    parts = [expect_collisions(250_000, 360_000, 120_000, 2**30) for _ in range(4)]
    assert sum(parts) == pytest.approx(whole)


def test_expected_collisions_are_those_of_random_hashes() -> None:
    from random import Random

    random, bits, span = Random(1), 16, 1000
    pairs: Sequence[Pair] = sorted(
        Pair(random.randrange(20_000), random.getrandbits(bits)) for _ in range(3000)
    )
    seen = sum(
        1
        for place, one in enumerate(pairs)
        for other in pairs[place + 1 :]
        if one.hash == other.hash and other.timestamp - one.timestamp <= span
    )
    assert expect_collisions(3000, 20_000, span, 2**bits) == pytest.approx(seen, rel=0.5)
