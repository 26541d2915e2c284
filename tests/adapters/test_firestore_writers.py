"""Several processes on one database: writers, readers, masters."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.documents import BUCKET_MS
from portable_core.adapters.firestore.scans import SCAN_SEGMENTS
from portable_core.errors import LeaseHeld, LeaseLost, SettingsError, WebhookSyncError
from portable_core.ports import Lease, SlaveState
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator

ALL = (0, MAX_INTEGER + 1)
Connect = Callable[[], FirestoreStore]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes open stores on one and the same database, each with a connection of its own."""
    use_emulator()
    name = name_database()
    with ExitStack() as stack:

        def connect() -> FirestoreStore:
            store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000)
            stack.callback(store.close)
            store.open("crc32c")
            return store

        yield connect


def make_record(timestamp: int, hash_: int) -> Record:
    return Record(Pair(timestamp, hash_), b'{"at":%d}' % timestamp)


def run_all(*targets: Callable[[], object]) -> list[object]:
    """Run them at the same moment; returns results and exceptions, in their order."""
    results: list[object] = [None] * len(targets)
    barrier = threading.Barrier(len(targets))

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = targets[index]()
        except WebhookSyncError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_reader_sees_what_two_writers_wrote(connect: Connect) -> None:
    writers, reader = [connect(), connect()], connect()
    assert reader.shared
    mine = [[make_record(1000 + 7 * i, 2 * i + w) for i in range(100)] for w in range(2)]

    def write(w: int) -> None:
        for start in range(0, 100, 10):
            writers[w].append(mine[w][start : start + 10], 9.0)

    assert run_all(partial(write, 0), partial(write, 1)) == [None, None]
    expected = sorted(mine[0] + mine[1], key=lambda record: record.pair)
    assert list(reader.records(*ALL)) == expected
    assert reader.latest(MAX_INTEGER, 3) == [record.pair for record in expected[:-4:-1]]


def test_a_scan_of_several_requests_shows_one_point_in_time(connect: Connect) -> None:
    """What another writer adds is read by a later request of the scan, and left out."""
    mine, other = connect(), connect()
    records = [make_record(BUCKET_MS * number, number) for number in range(SCAN_SEGMENTS + 6)]
    mine.append(records)
    scan = mine.pairs(*ALL)
    got = [next(scan)]
    last = records[-1].pair.timestamp
    other.append([make_record(last + 1, 7), make_record(last + BUCKET_MS, 7)])
    assert [*got, *scan] == [record.pair for record in records]
    assert len(list(mine.pairs(*ALL))) == len(records) + 2


def test_a_pair_that_both_wrote_is_one_record(connect: Connect) -> None:
    first, second = connect(), connect()
    first.append([make_record(1000, 1), make_record(1001, 2)])
    second.append([make_record(1000, 1), make_record(1002, 3)])
    assert list(second.pairs(*ALL)) == [Pair(1000, 1), Pair(1001, 2), Pair(1002, 3)]
    assert len(list(first.records(*ALL))) == 3


def test_opening_at_the_same_moment_makes_one_store() -> None:
    use_emulator()
    name = name_database()
    stores = [FirestoreStore(PROJECT, name, commit_timeout_ms=10_000) for _ in range(6)]
    infos = run_all(*(partial(store.open, "crc32c") for store in stores))
    assert len(set(map(str, infos))) == 1
    other = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000)
    with pytest.raises(SettingsError, match="HASH"):
        other.open("blake2b")
    for store in stores:
        store.close()


def test_only_one_of_two_masters_gets_the_lease(connect: Connect) -> None:
    a, b = connect(), connect()
    for turn in range(20):
        results = run_all(
            partial(a.acquire_lease, "a", 1000, 60_000),
            partial(b.acquire_lease, "b", 1000, 60_000),
        )
        leases = [result for result in results if isinstance(result, Lease)]
        assert len(leases) == 1
        assert sum(isinstance(result, LeaseHeld) for result in results) == 1
        assert leases[0].token == 2 * turn + 1
        a.release_lease(leases[0])


def test_a_stalled_master_writes_nothing(connect: Connect) -> None:
    """The stalled master does not know that it lost the lease; the service rejects its write."""
    stalled, other = connect(), connect()
    old = stalled.acquire_lease("stalled", 1000, 300)
    stalled.save_slave(old, "s", SlaveState(cursor=1))
    time.sleep(0.5)
    new = other.acquire_lease("other", 61_000, 60_000)
    other.save_slave(new, "s", SlaveState(cursor=2))
    for write in (
        lambda: stalled.save_records(old, [make_record(1000, 1)]),
        lambda: stalled.save_records(old, [Record(Pair(1000, 1), bytes(9_000_000))]),
        lambda: stalled.save_slave(old, "s", SlaveState(cursor=9)),
        lambda: stalled.renew_lease(old, 60_900, 60_000),
    ):
        with pytest.raises(LeaseLost):
            write()
    stalled.release_lease(old)
    with pytest.raises(LeaseHeld):
        stalled.acquire_lease("stalled", 61_100, 60_000)
    assert other.slave_states()["s"].cursor == 2
    assert list(other.pairs(*ALL)) == []
    other.save_records(other.renew_lease(new, 61_400, 60_000), [make_record(1000, 1)])


def test_a_save_during_a_lease_change_is_complete_or_nothing(connect: Connect) -> None:
    a, b = connect(), connect()
    for turn in range(15):
        time.sleep(0.15)
        old = a.acquire_lease("a", turn * 1000, 100)
        time.sleep(0.15)
        records = [make_record(turn * 1000 + i, i) for i in range(20)]
        saved, taken = run_all(
            partial(a.save_records, old, records),
            partial(b.acquire_lease, "b", turn * 1000 + 200, 100),
        )
        if isinstance(taken, LeaseHeld):  # the save came first, and the lease lasts from there
            assert saved is None
        there = list(a.pairs(turn * 1000, turn * 1000 + 1000))
        assert len(there) == (0 if isinstance(saved, LeaseLost) else 20)


def test_marks_raised_by_many_never_decrease(connect: Connect) -> None:
    stores = [connect() for _ in range(4)]

    def raise_some(index: int) -> list[int]:
        values = []
        for step in range(10):
            values.append(stores[index].raise_mark("asked", 4 * step + index + 1))
            values.append(stores[index].mark("asked"))
        return values

    results = run_all(*(partial(raise_some, i) for i in range(4)))
    for values in results:
        assert isinstance(values, list)
        assert values == sorted(values)
    assert {store.mark("asked") for store in stores} == {40}


def test_a_restored_store_begins_a_new_epoch(connect: Connect) -> None:
    store, other = connect(), connect()
    before = store.info()
    store.bump_generation()
    assert (other.info().uuid, other.info().generation) == (before.uuid, before.generation + 1)
    assert connect().open("crc32c") == other.info()


FORKING = """
import os, sys
from portable_core.adapters.firestore import FirestoreStore
from portable_core.records import Pair, Record

store = FirestoreStore("webhook-sync-test", sys.argv[1], commit_timeout_ms=10_000)
children = []
for number in (1, 2):
    child = os.fork()
    if child == 0:
        store.open("crc32c")
        store.append([Record(Pair(1000 + number, number), b"{}")], 9.0)
        store.close()
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def test_a_store_made_before_a_fork_serves_in_the_workers() -> None:
    use_emulator()
    name = name_database()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FORKING, name], cwd=root, env=dict(os.environ), timeout=60
    )
    assert done.returncode == 0
    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000)
    store.open("crc32c")
    assert list(store.pairs(*ALL)) == [Pair(1001, 1), Pair(1002, 2)]
    store.close()
