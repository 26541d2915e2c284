"""Copies of a webhook, and records that may be copies."""

from __future__ import annotations

from portable_core.adapters.memory_store import MemoryStore
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.webhooks.related import (
    COPIES_MS,
    COPIES_PAIRS,
    MOST_COPIES,
    MOST_SIMILAR,
    find_copies,
    find_similar_rows,
)
from portable_core.webhooks.search import Finder

DAY = 10 * COPIES_MS
KEY, OTHER_KEY = "a" * 32, "b" * 32


def fill(*records: Record) -> MemoryStore:
    store = MemoryStore()
    store.open("crc32c")
    store.append(records)
    return store


def make(timestamp: int, hash_: int = 7, key: str = KEY) -> Record:
    return Record(Pair(timestamp, hash_), b"{}", Meta("shop", key=key))


def list_times(store: MemoryStore, record: Record) -> list[int]:
    return [copy.row.pair.timestamp for copy in find_copies(Finder(store), record)]


def test_copies_have_the_hash_and_the_key_and_are_not_far() -> None:
    record = make(DAY)
    store = fill(
        record,
        make(DAY - COPIES_MS),
        make(DAY - COPIES_MS - 1),
        make(DAY + COPIES_MS),
        make(DAY + COPIES_MS + 1),
        make(DAY + 1, key=OTHER_KEY),  # a collision of the hash
        make(DAY + 2, key=""),
        make(DAY + 3, hash_=8),
        make(DAY, hash_=8),
    )
    assert list_times(store, record) == [DAY - COPIES_MS, DAY + COPIES_MS]
    assert list_times(store, make(DAY + 2, key="")) == []


def test_the_nearest_copies_count_and_the_search_is_bounded() -> None:
    record = make(DAY)
    store = fill(*(make(DAY + n * 1000) for n in range(-30, 30)))
    times = list_times(store, record)
    assert len(times) == MOST_COPIES
    assert set(times) == {DAY + n * 1000 for n in range(-10, 11)} - {DAY}
    others = (make(DAY + 1 + n, hash_=8) for n in range(COPIES_PAIRS))
    store = fill(record, *others, make(DAY + COPIES_PAIRS + 9))
    assert list_times(store, record) == []


def test_copies_name_the_members_in_which_they_differ() -> None:
    record = Record(Pair(DAY, 7), b'{"id":5,"attempt":1}', Meta(key=KEY))
    others = (b'{"attempt":1,"id":5}', b'{"id":5,"attempt":2}', b"\xff")
    copies = [Record(Pair(DAY + n, 7), text, record.meta) for n, text in enumerate(others, 1)]
    found = find_copies(Finder(fill(record, *copies)), record)
    assert [copy.members for copy in found] == [(), ("/attempt",), None]


def make_event(timestamp: int, attempt: int, number: int, slave: str = "", **meta: str) -> Record:
    payload = b'{"id":%d,"attempt":%d}' % (number, attempt)
    return Record(
        Pair(timestamp, attempt * 1000 + number),
        payload,
        Meta("pay", {"x-event-key": "paid"} | meta, key=f"{attempt * 1000 + number:032x}"),
        Recovery(slave, 9) if slave else None,
    )


def test_similar_records_came_to_another_node_and_differ_in_few_members() -> None:
    record = make_event(DAY, 1, 5)
    copy = make_event(DAY + 40, 2, 5, "slave-1")
    store = fill(
        record,
        copy,
        make_event(DAY + 50, 3, 5),  # to the same node
        make_event(DAY + 6000, 4, 5, "slave-1"),  # later
        Record(Pair(DAY + 60, 1), b'{"a":1,"b":2,"c":3}', copy.meta, copy.recovery),
    )
    (similar,) = find_similar_rows(Finder(store), record)
    assert (similar.row.pair, similar.members) == (copy.pair, ("/attempt",))
    # From the copy's side, both records that senders delivered to the master may be it.
    assert [(s.row.pair.timestamp, s.members) for s in find_similar_rows(Finder(store), copy)] == [
        (DAY, ("/attempt",)),
        (DAY + 50, ("/attempt",)),
    ]


def test_of_similar_records_only_the_nearest_with_the_fewest_differences_count() -> None:
    record = make_event(DAY, 1, 5)
    same = Record(Pair(DAY + 1, 9), b'{"id":5,"attempt":8}', record.meta, Recovery("slave-1", 9))
    near = [make_event(DAY - n, 2, 5 + n, "slave-1") for n in range(1, 9)]
    copy = make_event(DAY - 9, 2, 5, "slave-1")
    (found,) = find_similar_rows(Finder(fill(record, same, copy, *near)), record)
    assert (found.row.pair, found.members) == (copy.pair, ("/attempt",))
    # Without the copy, records with its key apart, the others are the most similar.
    pairs = [s.row.pair for s in find_similar_rows(Finder(fill(record, same, *near)), record)]
    assert pairs == [other.pair for other in near[MOST_SIMILAR - 1 :: -1]]


def test_similar_records_are_found_among_many_others() -> None:
    record = make_event(DAY, 1, 5)
    others = (make_event(DAY - 4000 + n, 1, 9000 + n) for n in range(8000) if n != 4000)
    store = fill(record, make_event(DAY + 10, 2, 5, "slave-1"), *others)
    assert [s.members for s in find_similar_rows(Finder(store), record)] == [("/attempt",)]
