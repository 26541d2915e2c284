"""A database of a former release is read, written on and removed, and that release rejects it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.ports import StoreInfo
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery
from tests.support.firestore_emulator import connect_store, opened_database
from tests.support.stores.former_firestore import FormerWriter
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records

ALL = (0, MAX_INTEGER + 1)

FORMER = [
    *make_records(30, NOON - HOUR),
    make_record(NOON - 5, 900, random.Random(1).randbytes(2_000_000)),
    Record(Pair(NOON + 1, 901), b'{"a":1}', Meta("shop", {"x-topic": "é"}, key="k" * 32)),
    Record(Pair(NOON + 2, 902), b"{}", Meta("s"), Recovery("slave-1", NOON + 9)),
]


@pytest.fixture
def database() -> Iterator[Database]:
    with opened_database() as database:
        yield database


@pytest.fixture
def writer(database: Database) -> FormerWriter:
    writer = FormerWriter(database)
    writer.create()
    return writer


def count_documents(database: Database) -> int:
    groups = ("webhooks", "parts", "pages", "segments")
    return sum(database.count(group) for group in groups)


@pytest.mark.parametrize("native_data", [False, True])
def test_it_is_read_and_written_on(
    database: Database, writer: FormerWriter, native_data: bool
) -> None:
    """The window has pages and segments in turn; a pair in both is one record."""
    writer.append(FORMER[:20])
    writer.append(FORMER[20:])
    store = connect_store(database, native_data=native_data)
    later = [*make_records(20, NOON - HOUR + 5, 7), make_record(NOON + DAY, 1)]
    store.append([*later, *FORMER[:3]])  # three of them again, now in a segment as well
    everything = sorted([*FORMER, *later], key=lambda record: record.pair)
    assert list(store.records(*ALL)) == everything
    assert list(store.pairs(*ALL)) == [record.pair for record in everything]
    mixed = random.Random(2).sample(everything, len(everything))
    assert list(store.fetch([record.pair for record in mixed])) == mixed
    newest = [record.pair for record in everything][::-1]
    assert store.latest(MAX_INTEGER, 40) == newest[:40]
    assert (store.first(), store.last()) == (NOON - HOUR, NOON + DAY)
    assert store.status().first == NOON - HOUR
    store.close()


def test_its_records_arrive_first_and_positions_stay_valid(
    database: Database, writer: FormerWriter
) -> None:
    unplaced = [make_record(NOON + n * HOUR, n) for n in (3, 1, 2)]
    for record in unplaced:
        writer.append([record], placed=False)
    writer.append(FORMER[:5])
    writer.append(make_records(3, NOON - DAY))
    store = connect_store(database)
    assert store.find_first_after(next(store.arrivals()).position) == NOON - DAY
    store.append([make_record(NOON - 2 * DAY, 9)])
    order = [
        *sorted(record.pair for record in unplaced),
        *(record.pair for record in [*FORMER[:5], *make_records(3, NOON - DAY)]),
        Pair(NOON - 2 * DAY, 9),
    ]
    arrivals = list(store.arrivals())
    assert [arrival.record.pair for arrival in arrivals] == order
    for index, arrival in enumerate(arrivals):
        rest = [later.record.pair for later in store.arrivals(arrival.position)]
        assert rest == order[index + 1 :]
    for index, arrival in enumerate(arrivals[:-1]):
        first = store.find_first_after(arrival.position)
        assert first is not None
        assert 0 <= min(pair.timestamp for pair in order[index + 1 :]) - first < HOUR
    assert list(store.arrivals(store.newest_arrival())) == []
    assert store.find_first_after(store.newest_arrival()) is None
    store.close()


def test_retention_and_a_repair_remove_it(database: Database, writer: FormerWriter) -> None:
    writer.append(make_records(5, NOON - 3 * DAY))
    writer.append(FORMER)
    store = connect_store(database)
    store.append(make_records(5, NOON - 3 * DAY + 20_000))
    assert store.prune(NOON - 2 * DAY) == 10
    assert store.first() == NOON - HOUR
    size = sum(record.size for record in FORMER)
    assert store.find_size_cut(size, MAX_INTEGER) == 0
    assert store.find_size_cut(size - 1, MAX_INTEGER) == NOON - HOUR // 2
    assert store.prune_to_size(size) is None
    assert store.prune_to_size(size - 1) is not None
    store.remove_after(store.find_cut(NOON - HOUR))
    assert store.first() is None
    assert count_documents(database) == 0
    store.close()


def test_a_former_release_does_not_answer_for_what_it_cannot_read(
    database: Database, writer: FormerWriter
) -> None:
    """When it starts, the algorithm is another one; while it runs, the UUID is empty."""
    name = database.name("meta", "store")
    uuid = database.get([name])[0][name].fields["uuid"].string_value
    store = connect_store(database)
    assert store.info() == StoreInfo(uuid, 1, "crc32c")
    fields = database.get([name])[0][name].fields
    assert fields["algorithm"].string_value == "segments/crc32c"
    assert fields["uuid"].string_value == ""
    store.bump_generation()
    store.close()
    again = connect_store(database)
    assert again.info() == StoreInfo(uuid, 2, "crc32c")
    writer.append(make_records(2))  # by an instance that still runs
    assert len(list(again.pairs(*ALL))) == 2
    again.close()


def test_a_new_database_is_never_searched_for_pages(database: Database) -> None:
    store = connect_store(database)
    store.append(make_records(3))
    before = store.operations.reads
    assert len(list(store.records(*ALL))) == 3
    assert list(store.fetch([Pair(1, 1)])) == []
    assert len(list(store.arrivals())) == 3
    assert store.operations.reads.keys() - before.keys() <= {"meta", "segments"}
    assert "pages" not in store.operations.reads
    assert list(database.scan(RangeQuery("pages", "key"), 1)) == []
    store.close()
