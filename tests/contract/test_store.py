"""The contract of ``Store``, for every store: see the docstrings of ``portable_core.ports``."""

from __future__ import annotations

import random

import pytest

from portable_core.errors import SettingsError, StoreError
from portable_core.ports import MasterStore
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place

ALL = (0, MAX_INTEGER + 1)


def test_what_was_appended_comes_back_in_order(store: MasterStore) -> None:
    records = make_records(100)
    shuffled = random.Random(1).sample(records, len(records))
    store.append(shuffled)
    assert list(store.pairs(*ALL)) == [record.pair for record in records]
    assert list(store.records(*ALL)) == records


def test_pairs_are_pairs(store: MasterStore) -> None:
    store.append([make_record(NOON, 7)])
    (pair,) = store.pairs(*ALL)
    assert isinstance(pair, Pair)
    assert (pair.timestamp, pair.hash) == (NOON, 7)


def test_one_millisecond_orders_by_hash(store: MasterStore) -> None:
    records = [make_record(NOON, hash_) for hash_ in (2**53 - 1, 0, 255, 16, 2**32)]
    store.append(records)
    assert [pair.hash for pair in store.pairs(*ALL)] == [0, 16, 255, 2**32, 2**53 - 1]


def test_a_window_is_half_open(store: MasterStore) -> None:
    store.append([make_record(NOON + offset) for offset in range(5)])
    window = (NOON + 1, NOON + 4)
    assert [pair.timestamp - NOON for pair in store.pairs(*window)] == [1, 2, 3]
    assert [record.pair.timestamp - NOON for record in store.records(*window)] == [1, 2, 3]


@pytest.mark.parametrize("window", [(NOON, NOON), (NOON + 1, NOON), (-5, 0), (-10, -5)])
def test_an_empty_window_is_empty(store: MasterStore, window: tuple[int, int]) -> None:
    store.append([make_record(NOON)])
    assert list(store.pairs(*window)) == []
    assert list(store.records(*window)) == []


def test_a_window_may_reach_beyond_every_time(store: MasterStore) -> None:
    records = [make_record(0, 0), make_record(NOON), make_record(MAX_INTEGER, MAX_INTEGER)]
    store.append(records)
    assert list(store.records(-1, 2**60)) == records
    assert list(store.records(*ALL)) == records
    assert list(store.pairs(0, MAX_INTEGER)) == [record.pair for record in records[:2]]


def test_records_far_apart_come_in_order(store: MasterStore) -> None:
    records = [make_record(NOON + step * HOUR // 2, step) for step in range(-20, 20) if step]
    records = [make_record(r.pair.timestamp, abs(r.pair.hash)) for r in records]
    store.append(records[::-1])
    store.append([make_record(NOON)])
    got = list(store.pairs(*ALL))
    assert got == sorted(got)
    assert len(got) == len(records) + 1
    assert list(store.pairs(NOON - HOUR, NOON + HOUR)) == [
        pair for pair in got if NOON - HOUR <= pair.timestamp < NOON + HOUR
    ]


def test_a_record_twice_is_a_record_once(store: MasterStore) -> None:
    records = make_records(10)
    store.append([*records, records[3]])
    store.append(records[5:])
    store.append([records[0], make_record(NOON - DAY), records[0]])
    assert list(store.records(*ALL)) == [make_record(NOON - DAY), *records]


def test_appending_nothing_is_nothing(store: MasterStore) -> None:
    store.append([])
    assert list(store.pairs(*ALL)) == []


def test_old_records_are_read_in_their_place(store: MasterStore) -> None:
    store.append(make_records(20, NOON, 2))
    store.append(make_records(20, NOON + 1, 2))
    store.append(make_records(5, NOON - 3 * DAY))
    got = [pair.timestamp for pair in store.pairs(*ALL)]
    assert got == [NOON - 3 * DAY + 10 * i for i in range(5)] + [NOON + i for i in range(40)]


@pytest.mark.parametrize(
    "record",
    [
        Record(Pair(NOON, 1), b""),
        Record(Pair(NOON, 1), bytes(range(256)) * 3),
        Record(Pair(NOON, 1), b"{}", Meta("", {"x-github-event": "push, \u00e9\u0000\U0001f600"})),
        Record(Pair(NOON, 1), b"{}", Meta("a/b", {}), Recovery("slave \u2603", MAX_INTEGER)),
        Record(Pair(NOON, 1), b'{"a":"\\ud83d","b":1e400}', Meta("s", {"a": "", "": "b"})),
    ],
)
def test_a_record_comes_back_whole(place: Place, record: Record) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    store.append([record])
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert list(store.records(*ALL)) == [record]
    assert list(store.fetch([record.pair])) == [record]
    store.close()


def test_large_payloads(store: MasterStore) -> None:
    noise = random.Random(2)
    records = [
        make_record(NOON + i, i, noise.randbytes(size))
        for i, size in enumerate([10, 100_000, 1_048_000, 1_048_576, 3_000_000, 20])
    ]
    store.append(records)
    assert list(store.records(*ALL)) == records
    assert [pair.hash for pair in store.pairs(*ALL)] == list(range(len(records)))
    assert list(store.fetch([records[4].pair])) == [records[4]]


def test_fetch_keeps_the_order_asked_for(store: MasterStore) -> None:
    records = [*make_records(30), *make_records(5, NOON + 2 * DAY)]
    store.append(records)
    asked = random.Random(3).sample(records, 20)
    absent = [Pair(NOON + 1, 1), Pair(NOON, MAX_INTEGER), Pair(NOON + 40 * DAY, 0), Pair(0, 0)]
    pairs = [record.pair for record in asked]
    for index, pair in enumerate(absent):
        pairs.insert(4 * index, pair)
    assert list(store.fetch(pairs)) == asked
    assert list(store.fetch([])) == []
    assert list(store.fetch(absent)) == []


def test_latest(store: MasterStore) -> None:
    records = [*make_records(10), *make_records(10, NOON + 3 * HOUR)]
    store.append(records)
    newest_first = [record.pair for record in records][::-1]
    assert store.latest(MAX_INTEGER, 5) == newest_first[:5]
    assert store.latest(MAX_INTEGER, 15) == newest_first[:15]
    assert store.latest(MAX_INTEGER, 100) == newest_first
    assert store.latest(newest_first[4].timestamp, 3) == newest_first[5:8]
    assert store.latest(NOON, 3) == []
    assert store.latest(MAX_INTEGER, 0) == []


def test_first_and_last(store: MasterStore) -> None:
    assert (store.first(), store.last()) == (None, None)
    store.append([make_record(NOON)])
    assert (store.first(), store.last()) == (NOON, NOON)
    store.append([make_record(NOON + 5), make_record(NOON - DAY), make_record(NOON + DAY)])
    assert (store.first(), store.last()) == (NOON - DAY, NOON + DAY)


# -- marks, identity, opening ----------------------------------------------------------------------


def test_marks_never_decrease(store: MasterStore) -> None:
    assert store.mark("asked") == 0
    assert store.raise_mark("asked", 5) == 5
    assert store.raise_mark("asked", 3) == 5
    assert store.raise_mark("horizon", MAX_INTEGER) == MAX_INTEGER
    assert (store.mark("asked"), store.mark("horizon"), store.mark("other")) == (5, MAX_INTEGER, 0)


def test_a_mark_is_set_to_any_value(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    for value in (5, 3, 0, 0, MAX_INTEGER, 7):
        store.set_mark("asked-1", value)
        store.raise_mark("asked", 4)
        assert store.mark("asked-1") == value
        assert store.marks("asked-") == ({"asked-1": value} if value else {})
    assert store.raise_mark("asked-1", 6) == 7
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert store.marks("") == {"asked": 4, "asked-1": 7}
    store.set_mark("asked-1", 0)
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert store.marks("") == {"asked": 4}
    store.close()


def test_marks_are_listed_by_the_beginning_of_their_names(store: MasterStore) -> None:
    names = ["rule/a", 'rule/a {"id":["body:/é"]}', "rule/b%2F", "rule", "rul", "rulf", "s"]
    for number, name in enumerate(names, 1):
        store.raise_mark(name, 1)
        store.raise_mark(name, number)
    marks = {name: number for number, name in enumerate(names, 1)}
    assert store.marks("rule/") == {n: v for n, v in marks.items() if n.startswith("rule/")}
    assert store.marks("rule/a ") == {names[1]: 2}
    assert store.marks("") == marks
    assert store.marks("x") == {}


def test_everything_is_there_after_reopening(place: Place) -> None:
    store = place.connect()
    first = store.open(ALGORITHM)
    records = [*make_records(50), *make_records(50, NOON + DAY)]
    store.append(records)
    store.raise_mark("asked", NOON)
    store.close()
    store = place.connect()
    assert store.open(ALGORITHM) == first
    assert store.info() == first
    assert list(store.records(*ALL)) == records
    assert store.mark("asked") == NOON
    status = store.status()
    assert status.records in (None, 100)
    assert status.first in (None, NOON)
    assert status.last in (None, records[-1].pair.timestamp)
    assert status.damaged == ()
    assert status.gaps == ()
    store.close()


def test_identity(place: Place, store: MasterStore) -> None:
    info = store.info()
    assert info.uuid
    assert info.algorithm == ALGORITHM
    assert store.open(ALGORITHM) == info


def test_another_algorithm_is_rejected(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    store.append(make_records(3))
    store.close()
    store = place.connect()
    with pytest.raises(SettingsError, match="crc32c"):
        store.open("blake2b-123")
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert len(list(store.pairs(*ALL))) == 3
    store.close()


def test_check(store: MasterStore) -> None:
    store.check()
    store.append(make_records(3))
    store.check()
    assert len(list(store.pairs(*ALL))) == 3


def test_a_store_that_is_not_open_raises(place: Place) -> None:
    store = place.connect()

    def refuse_all() -> None:
        with pytest.raises(StoreError):
            store.append(make_records(1))
        with pytest.raises(StoreError):
            list(store.pairs(*ALL))
        with pytest.raises(StoreError):
            list(store.records(*ALL))
        with pytest.raises(StoreError):
            list(store.fetch([Pair(NOON, 1)]))
        with pytest.raises(StoreError):
            store.info()
        with pytest.raises(StoreError):
            store.check()
        with pytest.raises(StoreError):
            store.raise_mark("asked", 1)
        with pytest.raises(StoreError):
            store.slave_states()

    refuse_all()
    store.close()
    store.open(ALGORITHM)
    store.append(make_records(1))
    store.close()
    store.close()
    refuse_all()


def test_a_deadline_that_is_kept(store: MasterStore) -> None:
    store.append(make_records(5), 30.0)
    assert len(list(store.pairs(*ALL))) == 5
