"""The order of arrival on Firestore: several writers, failed commits."""

from __future__ import annotations

import threading

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.writers import Writer, Writers, parse_place, read_time
from portable_core.ports import BEGINNING
from portable_core.records import Pair
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator
from tests.support.stores.samples import HOUR, NOON, make_records


def connect(database: str) -> FirestoreStore:
    use_emulator()
    store = FirestoreStore(PROJECT, database, commit_timeout_ms=10_000)
    store.open("crc32c")
    return store


def read_on(store: FirestoreStore, after: str) -> tuple[list[Pair], str]:
    arrivals = list(store.arrivals(after))
    return [a.record.pair for a in arrivals], arrivals[-1].position if arrivals else after


def test_a_reader_follows_several_instances_and_misses_nothing() -> None:
    database = name_database()
    stores = [connect(database) for _ in range(3)]
    written: set[Pair] = set()

    def write(number: int) -> None:
        for step in range(12):
            batch = make_records(3, NOON + number * 1000 + step * HOUR // 4, 7)
            stores[number].append(batch)
            written.update(record.pair for record in batch)

    threads = [threading.Thread(target=write, args=(n % 2,)) for n in range(3)]
    for thread in threads:
        thread.start()
    seen: list[Pair] = []
    position = BEGINNING
    while any(thread.is_alive() for thread in threads):
        got, position = read_on(stores[2], position)
        seen += got
    got, position = read_on(stores[2], position)
    assert set(seen + got) == written
    assert read_on(stores[2], position) == ([], position)
    for store in stores:
        store.close()


def test_a_position_within_a_segment_continues_within_it() -> None:
    store = connect(name_database())
    store.append(make_records(5))
    first = next(store.arrivals())
    store.append(make_records(2, NOON + HOUR))
    got, _ = read_on(store, first.position)
    assert got == [r.pair for r in [*make_records(5)[1:], *make_records(2, NOON + HOUR)]]
    store.close()


def test_a_writer_counts_and_serves_one_thread_at_a_time() -> None:
    elapsed = [0.0]
    writers = Writers(lambda: 1_795_000_000_000_000_000, lambda: elapsed[0])
    with writers.borrow() as one, writers.borrow() as other:
        assert one.id != other.id
        places = [one.next_place(), one.next_place(), other.next_place()]
    assert [parse_place(place) for place in places] == [(one.id, 1), (one.id, 2), (other.id, 1)]
    assert read_time(one.id) == 1_795_000_000_000
    with writers.borrow() as again:
        assert again in (one, other)
    elapsed[0] = 3600.0
    with writers.borrow() as late:
        assert late not in (one, other)


def test_a_writer_is_not_used_again_after_an_error() -> None:
    """Its commit may still become visible, before a number that would follow it."""
    writers = Writers(lambda: 0, lambda: 0.0)

    def fail() -> Writer:
        with writers.borrow() as writer:
            raise OSError(writer.id)
        return writer

    with pytest.raises(OSError, match=r"^0{11}") as failed:
        fail()
    with writers.borrow() as writer:
        assert writer.id not in str(failed.value)
