"""The order of arrival, for every store: see ``ArrivalOrder`` in ``portable_core.ports``."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from portable_core.errors import BadRequest, StoreError
from portable_core.ports import BEGINNING, MasterStore
from portable_core.records import Pair, Record
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, Place


def read_on(store: MasterStore, after: str) -> tuple[list[Record], str]:
    """Return the records after a position, and the position after the last of them."""
    arrivals = list(store.arrivals(after))
    return [a.record for a in arrivals], arrivals[-1].position if arrivals else after


def test_records_come_in_the_order_of_their_commits(store: MasterStore) -> None:
    batches = [
        make_records(5, NOON),
        make_records(5, NOON - 3 * DAY),
        [make_record(NOON + 7, 7), make_record(NOON - HOUR, 8), make_record(NOON + HOUR, 9)],
        make_records(5, NOON + 1, 20),
    ]
    position = BEGINNING
    for batch in batches:
        store.append(batch)
        got, position = read_on(store, position)
        assert sorted(r.pair for r in got) == sorted(r.pair for r in batch)
        assert {r.pair: r for r in got} == {r.pair: r for r in batch}
    order = [a.record.pair for a in store.arrivals()]
    at = 0
    for batch in batches:
        assert set(order[at : at + len(batch)]) == {r.pair for r in batch}
        at += len(batch)
    assert len(order) == at


def test_every_position_continues_with_the_rest(store: MasterStore) -> None:
    for start in (NOON, NOON - DAY, NOON + 5):
        store.append(make_records(7, start))
    arrivals = list(store.arrivals())
    assert len(arrivals) == 21
    for index, arrival in enumerate(arrivals):
        assert list(store.arrivals(arrival.position)) == arrivals[index + 1 :]
    assert list(store.arrivals(store.newest_arrival())) == []


def test_the_newest_position_skips_what_is_there(store: MasterStore) -> None:
    assert list(store.arrivals(store.newest_arrival())) == []
    store.append(make_records(3))
    position = store.newest_arrival()
    assert list(store.arrivals(position)) == []
    store.append([make_record(NOON - HOUR, 50)])
    assert [r.pair.hash for r in read_on(store, position)[0]] == [50]


def test_a_record_that_is_appended_again_keeps_its_place(store: MasterStore) -> None:
    """In a shared store it may come again: no writer reads what is there."""
    records = make_records(4)
    store.append(records)
    position = store.newest_arrival()
    store.append([*records, make_record(NOON + DAY, 9)])
    again = [r.pair for r in records] if store.shared else []
    got = [r.pair for r in read_on(store, position)[0]]
    assert got == [*again, Pair(NOON + DAY, 9)]
    order = list(dict.fromkeys(a.record.pair for a in store.arrivals()))
    assert order == [*(r.pair for r in records), Pair(NOON + DAY, 9)]


def test_records_saved_under_a_lease_have_a_place(store: MasterStore) -> None:
    store.append(make_records(2))
    position = store.newest_arrival()
    lease = store.acquire_lease("a", 0, 10_000)
    store.save_records(lease, make_records(3, NOON - DAY))
    assert len(read_on(store, position)[0]) == 3


def test_the_order_outlives_the_process(place: Place) -> None:
    position = BEGINNING
    order: list[Pair] = []
    for step in (5, 3, 4, 1, 2):
        store = place.connect()
        store.open(ALGORITHM)
        assert [a.record.pair for a in store.arrivals()] == order
        assert list(store.arrivals(position)) == []
        store.append(make_records(step, NOON - step * HOUR))
        got, position = read_on(store, position)
        assert len(got) == step
        order += [r.pair for r in got]
        store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert list(store.arrivals(position)) == []
    assert [a.record.pair for a in store.arrivals()] == order
    store.close()


def test_what_is_appended_later_is_not_in_a_running_scan(store: MasterStore) -> None:
    store.append(make_records(3000))
    scan = store.arrivals()
    first = next(scan)
    store.append([make_record(NOON - DAY), make_record(NOON + DAY)])
    rest = list(scan)
    assert len([first, *rest]) == 3000
    assert len(read_on(store, rest[-1].position)[0]) == 2


def test_an_earlier_position_lies_at_most_so_many_records_before(store: MasterStore) -> None:
    store.append(make_records(20))
    store.append(make_records(20, NOON - DAY))
    arrivals = list(store.arrivals())
    for index, count in ((39, 5), (25, 10), (3, 100), (0, 1)):
        position = arrivals[index].position
        between = list(store.arrivals(store.find_earlier(position, count)))
        rest = len(arrivals) - index - 1
        assert between == arrivals[len(arrivals) - len(between) :]
        assert rest <= len(between) <= rest + count
        if not store.shared:
            assert len(between) == rest + min(count, index + 1)


def test_removed_records_are_left_out(store: MasterStore) -> None:
    store.append(make_records(5, NOON - 3 * DAY))
    position = store.newest_arrival()
    store.append(make_records(5, NOON - 2 * DAY))
    store.append(make_records(5, NOON))
    store.prune(NOON - DAY)
    assert [r.pair for r in read_on(store, position)[0]] == [r.pair for r in make_records(5)]
    assert [a.record.pair for a in store.arrivals()] == [r.pair for r in make_records(5)]


@pytest.mark.parametrize("text", ["x", "-1", "é", "0 ", "\n", "1-", "p", "p12", "f" * 5000, "{}"])
def test_other_text_is_not_a_position(store: MasterStore, text: str) -> None:
    store.append(make_records(2))
    with pytest.raises(BadRequest):
        list(store.arrivals(text))


def test_a_reader_follows_two_writers(store: MasterStore) -> None:
    """Senders append at the time of the clock, and a sync adds records of old hours."""
    random_ = random.Random(3)
    steps = 40
    written: set[Pair] = set()
    lease = store.acquire_lease("a", 0, 2**40)

    def receive() -> None:
        for step in range(steps):
            store.append(make_records(3, NOON + 100 * step))
            written.update(r.pair for r in make_records(3, NOON + 100 * step))

    def sync() -> None:
        for step in range(steps):
            start = NOON - random_.randrange(1, 50) * HOUR + step
            batch = [make_record(start + n * HOUR // 2, 1000 + step) for n in range(3)]
            store.save_records(lease, batch)
            written.update(r.pair for r in batch)

    arrived = threading.Event()
    remove = store.on_arrival(arrived.set)
    seen: list[Pair] = []
    position = BEGINNING
    threads = [threading.Thread(target=target) for target in (receive, sync)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or arrived.is_set():
        arrived.wait(0.2)
        arrived.clear()
        got, position = read_on(store, position)
        seen += [r.pair for r in got]
    remove()
    got, position = read_on(store, position)
    seen += [r.pair for r in got]
    assert len(seen) == len(set(seen))
    assert set(seen) == written


def test_a_listener_is_called_after_the_commit_until_it_is_removed(store: MasterStore) -> None:
    counts: list[int] = []
    remove = store.on_arrival(lambda: counts.append(len(list(store.arrivals()))))
    store.append(make_records(2))
    lease = store.acquire_lease("a", 0, 10_000)
    store.save_records(lease, make_records(1, NOON - DAY))
    assert counts == [2, 3]
    remove()
    store.append(make_records(2, NOON + DAY))
    assert counts == [2, 3]


_Use = Callable[[MasterStore], object]


@pytest.mark.parametrize("use", [lambda s: list(s.arrivals()), lambda s: s.newest_arrival()])
def test_a_closed_store_has_no_order(place: Place, use: _Use) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    store.close()
    with pytest.raises(StoreError):
        use(store)
