"""Importing, for every store: records come back, before all others in the order of arrival."""

from __future__ import annotations

import pytest

from portable_core.ports import MasterStore
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place

ALL = (0, MAX_INTEGER + 1)


def open_store(place: Place) -> MasterStore:
    store = place.connect()
    store.open(ALGORITHM)
    if store.shared:
        store.close()
        pytest.skip("this kind of store imports nothing; a master reports that")
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
    store = place.connect()
    store.open(ALGORITHM)
    assert store.status().records == 11
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
