"""Erasing, for every store: the payload is gone, the pair and the order stay."""

from __future__ import annotations

from portable_core.ports import BEGINNING, MasterStore, Tombstone
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import DAY, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place

ALL = (0, MAX_INTEGER + 1)


def test_an_erased_record_is_gone_and_its_pair_stays(store: MasterStore) -> None:
    records = [*make_records(5), *make_records(5, NOON + DAY)]
    store.append(records)
    before = [arrival.position for arrival in store.arrivals()]
    end = store.newest_arrival()
    gone = [records[1], records[7]]
    assert store.erase([Tombstone(r.pair, r.meta.key, NOON) for r in gone]) == 2
    left = [record for record in records if record not in gone]
    assert list(store.records(*ALL)) == left
    assert list(store.pairs(*ALL)) == [record.pair for record in records]
    assert list(store.fetch([record.pair for record in records])) == left
    arrivals = list(store.arrivals())
    assert [arrival.record for arrival in arrivals] == left
    assert [arrival.position for arrival in arrivals] == [
        position for number, position in enumerate(before) if number not in (1, 7)
    ]
    assert [a.record for a in store.arrivals(before[1])] == left[1:]
    assert store.newest_arrival() == end
    store.append([records[1]])  # from a slave, again
    assert list(store.records(*ALL)) == left
    store.append(make_records(1, NOON + 2 * DAY))
    assert len(list(store.arrivals(end))) == 1


def test_tombstones_are_numbered_and_outlive_the_process(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    record, other = make_record(NOON, 3), make_record(NOON + 5, 4)
    store.append([record])
    first, second = Tombstone(record.pair, "k", 5), Tombstone(other.pair, "", 6)
    assert store.erase([first]) == 1
    assert store.erase([first, second]) == 0  # the second one was never here
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    numbered = list(store.tombstones())
    assert [tombstone for _, tombstone in numbered] == [first, second]
    assert list(store.tombstones(numbered[0][0])) == numbered[1:]
    assert list(store.tombstones(numbered[1][0])) == []
    assert list(store.records(*ALL)) == []
    assert [a.record for a in store.arrivals(BEGINNING)] == []
    assert list(store.pairs(*ALL)) == [record.pair]
    third = Tombstone(make_record(NOON + 9, 9).pair, "x", 7)
    store.erase([third])
    assert [tombstone for _, tombstone in store.tombstones()] == [first, second, third]
    store.close()
