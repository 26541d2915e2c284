"""Importing, for every store: records come back, before all others in the order of arrival."""

from __future__ import annotations

import pytest

from portable_core.errors import LeaseLost
from portable_core.ports import MasterStore, Tombstone
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place

ALL = (0, MAX_INTEGER + 1)


def open_store(place: Place) -> MasterStore:
    store = place.connect()
    store.open(ALGORITHM)
    return store


def test_imported_records_come_first_and_no_consumer_gets_them_again(place: Place) -> None:
    store = open_store(place)
    old, new = make_records(6, NOON, HOUR // 4), make_records(4, NOON + DAY)
    store.append([*old, *new])
    end = store.newest_arrival()
    store.prune(NOON + DAY // 2)
    assert list(store.records(*ALL)) == new
    lease = store.acquire_lease("test", 0, 1)
    store.import_records(lease, old[3:])
    store.import_records(lease, old)
    assert list(store.records(*ALL)) == [*old, *new]
    assert list(store.arrivals(end)) == []
    assert store.newest_arrival() == end
    assert store.find_first_after(end) is None
    everything = list(store.arrivals())
    assert [arrival.record for arrival in everything] == [*old, *new]
    for number, arrival in enumerate(everything, 1):
        rest = [later.record for later in store.arrivals(arrival.position)]
        assert rest == [*old, *new][number:]
    late = make_record(NOON + 7, 77)
    store.append([late])  # into the hour of imported records
    assert [arrival.record for arrival in store.arrivals(end)] == [late]
    assert len(list(store.arrivals())) == 11
    store.close()
    store = open_store(place)
    assert store.status().records == (None if store.shared else 11)
    assert len(list(store.records(*ALL))) == 11
    assert len(list(store.arrivals())) == 11
    assert [arrival.record for arrival in store.arrivals(end)] == [late]
    store.close()


def test_records_are_imported_beside_those_of_the_hour(place: Place) -> None:
    store = open_store(place)
    kept, gone = make_records(3, NOON), make_records(3, NOON + 1)
    store.append(kept)
    end = store.newest_arrival()
    lease = store.acquire_lease("test", 0, 1)
    store.import_records(lease, gone)
    assert {record.pair for record in store.records(*ALL)} == {r.pair for r in [*kept, *gone]}
    assert list(store.arrivals(end)) == []
    store.append([make_record(NOON + 99, 99)])
    assert len(list(store.arrivals(end))) == 1
    assert [arrival.record for arrival in store.arrivals()][:3] == gone
    store.close()


def test_an_import_continues_after_an_interruption(place: Place) -> None:
    """The earlier import stopped in the middle of a batch; positions among its records stay."""
    store = open_store(place)
    store.append(make_records(1, NOON + DAY))
    records = make_records(40, NOON, 500)
    lease = store.acquire_lease("test", 0, 1)
    store.import_records(lease, records[10:25])
    position = list(store.arrivals())[12].position
    first = store.find_first_after(position)
    assert first is not None
    assert NOON - HOUR < first <= records[23].pair.timestamp
    store.import_records(lease, records)
    assert list(store.records(*ALL))[:-1] == records
    assert [arrival.record for arrival in store.arrivals()][:-1] == records
    assert [arrival.record for arrival in store.arrivals(position)][:-1] == records[23:]
    store.close()


def test_nothing_is_imported_under_a_lost_lease(place: Place) -> None:
    store = open_store(place)
    lease = store.acquire_lease("test", 0, 1)
    store.release_lease(lease)
    with pytest.raises(LeaseLost):
        store.import_records(lease, make_records(2))
    assert list(store.records(*ALL)) == []
    store.close()


def test_an_import_repeats_no_record_that_is_there(place: Place) -> None:
    """A consumer that is behind still gets the record at its place."""
    store = open_store(place)
    position = store.newest_arrival()
    records = make_records(5)
    store.append(records)
    store.import_records(store.acquire_lease("test", 0, 1), records)
    assert list(store.records(*ALL)) == records
    assert [arrival.record for arrival in store.arrivals(position)] == records
    store.close()


def test_a_removal_reaches_imported_records(place: Place) -> None:
    store = open_store(place)
    records = make_records(5)
    lease = store.acquire_lease("test", 0, 1)
    store.import_records(lease, records)
    assert store.erase([Tombstone(records[1].pair, "", 7)]) == 1
    rest = [records[0], *records[2:]]
    assert list(store.records(*ALL)) == rest
    assert [arrival.record for arrival in store.arrivals()] == rest
    while store.prune(NOON + DAY):
        pass
    assert list(store.records(*ALL)) == []
    assert list(store.arrivals()) == []
    store.close()
