"""The streaming reconcile equals its rule for any two sets, any span and any batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import StreamCut, StreamTooLarge
from portable_core.records import Pair
from portable_core.sync.reconcile import find_missing

timestamps = st.integers(0, 40)
pairs = st.builds(Pair, timestamps, st.integers(0, 4))
ours_sets = st.sets(pairs, max_size=30).map(sorted)
theirs_lists = st.lists(pairs, max_size=30).map(lambda items: sorted(items, key=lambda p: p[0]))
spans = st.integers(0, 12)


def represented(pair: Pair, theirs: Sequence[Pair], span: int) -> bool:
    return any(
        other.hash == pair.hash and abs(other.timestamp - pair.timestamp) <= span
        for other in theirs
    )


def split(items: Sequence[Pair], cuts: Sequence[int]) -> list[Sequence[Pair]]:
    places = sorted({min(cut, len(items)) for cut in cuts} | {0, len(items)})
    return [items[a:b] for a, b in pairwise(places)]


@given(ours_sets, theirs_lists, spans, st.lists(st.integers(0, 30)), st.integers(1, 5))
def test_equals_the_oracle(
    ours: list[Pair], theirs: list[Pair], span: int, cuts: list[int], run_length: int
) -> None:
    runs = list(find_missing(ours, split(theirs, cuts), span, run_length=run_length))
    assert [p for run in runs for p in run] == [p for p in ours if not represented(p, theirs, span)]
    assert all(1 <= len(run) <= run_length for run in runs)


@given(ours_sets, theirs_lists, spans, st.integers(0, 30))
def test_a_cut_request_yields_only_pairs_that_no_later_pair_could_represent(
    ours: list[Pair], theirs: list[Pair], span: int, cut: int
) -> None:
    def cut_stream() -> Iterator[Sequence[Pair]]:
        for pair in theirs[:cut]:
            yield [pair]
        raise StreamCut("cut")

    found: list[Pair] = []
    with suppress(StreamCut):
        for run in find_missing(ours, cut_stream(), span):
            found += run
        pytest.fail("the cut was not noticed")
    read_to = theirs[:cut][-1].timestamp if theirs[:cut] else -1
    assert all(pair.timestamp + span < read_to for pair in found)
    # whatever the rest of the request had been, each of them is missing
    whole = [p for p in ours if not represented(p, theirs, span)]
    assert found == whole[: len(found)]


@given(ours_sets, theirs_lists, spans)
def test_a_run_is_returned_before_the_next_batch_is_awaited(
    ours: list[Pair], theirs: list[Pair], span: int
) -> None:
    """When a batch is requested, every pair decidable without it has been returned."""
    given_out: list[Pair] = []
    read: list[Pair] = []

    def watched() -> Iterator[Sequence[Pair]]:
        for pair in theirs:
            edge = read[-1].timestamp if read else -1
            decidable = [p for p in ours if p.timestamp + span < edge]
            assert given_out == [p for p in decidable if not represented(p, read, span)]
            read.append(pair)
            yield [pair]

    for run in find_missing(ours, watched(), span):
        given_out += run


def test_too_many_pairs_within_a_few_spans_are_rejected() -> None:
    ours = [Pair(100, 1)]
    theirs = [[Pair(100, n) for n in range(10, 21)]]
    assert list(find_missing(ours, theirs, 5, max_held=11)) == [[Pair(100, 1)]]
    with pytest.raises(StreamTooLarge, match="10 hashes"):
        list(find_missing(ours, theirs, 5, max_held=10))
