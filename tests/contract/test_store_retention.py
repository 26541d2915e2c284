"""Retention, for every store: newer records stay, and the gap is reported."""

from __future__ import annotations

import random

import pytest

from portable_core.ports import BEGINNING, MasterStore
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place

ALL = (0, MAX_INTEGER + 1)


def test_prune_never_removes_what_is_newer(store: MasterStore) -> None:
    records = [make_record(NOON + step * HOUR // 3, step) for step in range(30)]
    store.append(records)
    before = NOON + 5 * HOUR + 1
    store.prune(before)
    left = list(store.records(*ALL))
    assert left == records[len(records) - len(left) :]
    assert [r for r in left if r.pair.timestamp >= before] == [
        r for r in records if r.pair.timestamp >= before
    ]


def test_prune_removes_what_is_days_older(store: MasterStore) -> None:
    old, new = make_records(20, NOON - 3 * DAY), make_records(20)
    store.append([*old, *new])
    assert store.prune(NOON) > 0
    assert list(store.records(*ALL)) == new
    assert store.first() == NOON
    assert list(store.fetch([record.pair for record in old])) == []
    assert store.prune(NOON) == 0


def test_appending_after_a_prune_of_everything(store: MasterStore) -> None:
    store.append(make_records(20))
    store.prune(NOON + 10 * DAY)
    assert (store.first(), store.last(), list(store.pairs(*ALL))) == (None, None, [])
    store.append(make_records(3, NOON + 11 * DAY))
    store.append(make_records(2))
    assert len(list(store.records(*ALL))) == 5


def test_a_scan_survives_a_prune(store: MasterStore) -> None:
    old, new = make_records(2000, NOON - 3 * DAY), make_records(2000)
    store.append([*old, *new])
    scan = store.records(*ALL)
    got = [next(scan)]
    store.prune(NOON)
    got += scan
    assert [record for record in got if record.pair.timestamp >= NOON] == new
    assert got == sorted(got, key=lambda record: record.pair)
    assert set(got) <= {*old, *new}


def test_prune_to_size_removes_the_oldest_and_reports_the_gap(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    noise = random.Random(4)
    records = [
        make_record(NOON + day * DAY + i, i, noise.randbytes(5000))
        for day in range(5)
        for i in range(20)
    ]
    store.append(records)
    size = store.status().bytes
    assert store.prune_to_size(2**50) is None
    assert len(list(store.pairs(*ALL))) == 100
    if size is not None:
        gap = store.prune_to_size(size // 2)
        assert gap is not None
        left = list(store.records(*ALL))
        assert left == records[len(records) - len(left) :]
        assert 0 < len(left) < len(records)
        gone = records[: len(records) - len(left)]
        assert gap[0] <= gone[0].pair.timestamp
        assert gone[-1].pair.timestamp < gap[1] <= left[0].pair.timestamp
        now = store.status()
        assert now.bytes is not None
        assert now.bytes <= size // 2
        assert now.gaps == (gap,)
        store.close()
        store = place.connect()
        store.open(ALGORITHM)
        assert store.status().gaps == (gap,)
        assert [(loss.name, loss.start, loss.end) for loss in store.losses()] == [("gap", *gap)]
        assert list(store.records(*ALL)) == left
    store.close()


def measure(store: MasterStore) -> int:
    """Return the size that retention counts; a shared store reports none, as it costs reads."""
    size = store.status().bytes
    return sum(record.size for record in store.records(*ALL)) if size is None else size


def test_the_first_record_after_a_position_bounds_what_may_be_removed(store: MasterStore) -> None:
    assert store.find_first_after(BEGINNING) is None
    store.append(make_records(3, NOON + DAY))
    store.append(make_records(3, NOON))
    early = store.newest_arrival()
    store.append(make_records(2, NOON + 2 * DAY))
    store.append(make_records(2, NOON - DAY))  # recovered late
    late = store.newest_arrival()
    for position, first in ((BEGINNING, NOON - DAY), (early, NOON - DAY)):
        found = store.find_first_after(position)
        assert found is not None
        assert first - HOUR < found <= first
    assert store.find_first_after(late) is None
    store.append(make_records(2, NOON + 3 * DAY))
    found = store.find_first_after(late)
    assert found is not None
    assert NOON + 3 * DAY - HOUR < found <= NOON + 3 * DAY


def test_the_cut_for_a_size_leaves_at_most_that_size(store: MasterStore) -> None:
    assert store.find_size_cut(0, MAX_INTEGER) == 0
    noise = random.Random(5)
    hours = [
        [make_record(NOON + h * HOUR + i, i, noise.randbytes(9000)) for i in range(20)]
        for h in range(6)
    ]
    for records in hours:
        store.append(records)
    size = measure(store)
    assert store.find_size_cut(2**40, MAX_INTEGER) == 0
    cut = store.find_size_cut(size // 2, MAX_INTEGER)
    start = NOON // HOUR * HOUR
    assert start < cut <= start + 5 * HOUR
    assert cut % HOUR == 0
    before = store.find_size_cut(0, start + 2 * HOUR + 1)
    assert before == start + 2 * HOUR  # those before alone count
    assert store.find_size_cut(0, MAX_INTEGER) == start + 5 * HOUR  # never the newest hour
    store.prune(cut)
    now = measure(store)
    assert size // 4 < now <= size // 2 + size // 5
    assert store.first() == next(h[0].pair.timestamp for h in hours if h[0].pair.timestamp >= cut)


@pytest.mark.parametrize("days", [2, 9])
def test_records_before_the_masters_window_are_no_gap(store: MasterStore, days: int) -> None:
    store.append([make_record(NOON + day * DAY + i, i) for day in range(4) for i in range(5)])
    asked = NOON + days * DAY + 3
    gap = store.prune_to_size(1, asked)
    left = store.first()
    assert left is None or left >= NOON + 3 * DAY
    if days > 4:
        assert gap is None
        assert store.status().gaps == ()
        assert list(store.losses()) == []
    else:
        assert gap is not None
        assert gap[0] == asked
        assert gap[1] > NOON + 2 * DAY + 4
        assert store.status().gaps == (gap,)
