"""Retention on Firestore: its gaps, and the most work of one call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portable_core.adapters.firestore import FirestoreStore, removal
from portable_core.adapters.firestore.documents import BUCKET_MS
from portable_core.adapters.firestore.gaps import merge_gaps
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.receiver import Receiver
from portable_core.records import Pair, Record
from portable_core.settings import Settings
from portable_core.sync.slave import Slave, SyncQuery
from tests.support.firestore_emulator import connect_store, opened_database, opened_store
from tests.unit.test_master_retention import HOUR, KEPT_S, Rig

START = 1_700_000_000_000


@pytest.fixture
def store() -> Iterator[FirestoreStore]:
    with opened_store() as store:
        yield store


def fill_bucket(store: FirestoreStore, number: int) -> None:
    """A record of 1,002 bytes in the middle of a bucket of its own."""
    store.append([Record(Pair(START + number * BUCKET_MS + 3000, number), bytes(1000))])


def test_steady_removal_is_one_gap(store: FirestoreStore) -> None:
    for number in range(12):
        fill_bucket(store, number)
        store.prune_to_size(3100)
    assert store.status().gaps == ((START + 3000, START + 9 * BUCKET_MS),)
    store.prune_to_size(0)
    for number in range(20, 23):
        fill_bucket(store, number)
    assert store.prune_to_size(2100) == (START + 20 * BUCKET_MS + 3000, START + 21 * BUCKET_MS)
    assert store.status().gaps == (
        (START + 3000, START + 12 * BUCKET_MS),
        (START + 20 * BUCKET_MS + 3000, START + 21 * BUCKET_MS),
    )


def test_adjacent_gaps_and_the_oldest_gaps_are_merged() -> None:
    second = (2 * BUCKET_MS + 5, 3 * BUCKET_MS)
    assert merge_gaps([second, (5, BUCKET_MS)]) == [(5, BUCKET_MS), second]
    assert merge_gaps([second, (5, 2 * BUCKET_MS)]) == [(5, 3 * BUCKET_MS)]
    many = [(3 * number * BUCKET_MS, (3 * number + 1) * BUCKET_MS) for number in range(150)]
    merged = merge_gaps(many)
    assert len(merged) == 100
    assert merged == [(0, many[50][1]), *many[51:]]


def test_many_gaps_stay_a_short_list(store: FirestoreStore) -> None:
    for number in range(103):
        fill_bucket(store, 3 * number)
        store.prune_to_size(0)
    gaps = store.status().gaps
    assert len(gaps) == 100
    assert gaps[0] == (START + 3000, START + 10 * BUCKET_MS)
    assert gaps[-1][1] == START + 307 * BUCKET_MS


def test_one_call_removes_no_more_than_its_budget(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment is one delete, and the limit of a commit is set to one."""
    monkeypatch.setattr(removal, "_DELETES", 1)
    monkeypatch.setattr(removal, "REMOVE_S", 1e9)
    for number in range(removal.REMOVE_COMMITS + 5):
        fill_bucket(store, number)
    before = START + 100 * BUCKET_MS
    assert [store.prune(before) for _ in range(3)] == [removal.REMOVE_COMMITS, 5, 0]
    assert store.first() is None

    for number in range(5):
        fill_bucket(store, number)
    monkeypatch.setattr(removal, "REMOVE_S", 0)
    assert store.prune(before) == 1
    assert store.prune_to_size(1100) == (START + BUCKET_MS + 3000, START + 2 * BUCKET_MS)
    assert [store.prune_to_size(1100) is None for _ in range(3)] == [False, False, True]
    assert store.first() == START + 4 * BUCKET_MS + 3000
    assert store.status().gaps == ((START + BUCKET_MS + 3000, START + 4 * BUCKET_MS),)


def test_further_webhooks_complete_the_retention(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "REMOVE_S", 0)
    clock = SimulatedClock(START + 100 * BUCKET_MS)
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "LINGER_MS": "0", "RETENTION_S": "1"}
    slave = Slave(Receiver(Settings.from_env("slave", env), store, clock))
    slave.describe()
    for number in range(3):
        fill_bucket(store, number)
    window = SyncQuery(clock.now() - 1000, clock.now(), 120_000, "crc32c")
    slave.answer(window, iter([])).close()
    firsts = []
    for pause_s in (61, 1, 2, 2, 2):
        clock.sleep(pause_s)
        slave.retain()
        first = store.first()
        firsts.append(None if first is None else (first - START) // BUCKET_MS)
    assert firsts == [1, 1, 2, None, None]


def test_a_master_waits_for_what_a_consumer_lacks_of_several_writers() -> None:
    with opened_database() as database:
        store, other = connect_store(database), connect_store(database)
        rig = Rig(store)
        begin = rig.clock.now() // HOUR * HOUR
        other.append([Record(Pair(begin, 1), b"1")])
        rig.receive(3)
        rig.sync()
        rig.consumers.save("shop", "now")
        assert rig.consumers.describe_one("shop").position.count("-") >= 2
        late = Record(Pair(begin + HOUR + 5, 2), b"2")
        other.append([late])
        rig.clock.sleep(KEPT_S + HOUR // 1000)
        sent = rig.receive(1)
        rig.sync()
        assert store.first() is not None
        assert begin + HOUR <= (store.first() or 0) <= late.pair.timestamp
        assert late.payload in rig.read()
        assert list(rig.master.retention.describe_waits()) == ["shop"]
        rig.consumers.save("shop", "now")
        rig.sync()
        assert rig.read() == sent
        assert rig.master.retention.describe_waits() == {}
        rig.env = {"RETENTION_BYTES": "1"}
        rig.start_master()
        sent = rig.receive(3)
        rig.sync()
        assert rig.read() == sent
        rig.consumers.save("shop", "now")
        rig.sync()
        newest = store.last()
        assert newest is not None
        assert (store.first() or 0) >= newest // HOUR * HOUR  # the newest hour alone
        for each in (store, other):
            each.close()
