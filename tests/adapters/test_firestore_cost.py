"""The cost promise: documents read and written for receiving and for syncing, counted.

What is counted is what Firestore bills (see ``docs/firestore.md``, whose table follows from it).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import BUCKET_MS
from portable_core.adapters.firestore.operations import measure_document
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.epochs import Stint
from portable_core.ingest.receiver import Receiver
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, Tombstone, wait_on
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import ENCODINGS, read_batches
from tests.support.firestore_emulator import connect_store, opened_database

START = 1_700_000_000_000
assert START % BUCKET_MS == 0

SAMPLES = Path(__file__).parents[2] / "portable_core" / "samples"


class DirectClient:
    """The port ``SlaveClient`` without a network in between."""

    name = "slave-1"

    def __init__(self, slave: Slave) -> None:
        self._slave = slave

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        return self._slave.describe(stint, clock)

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        raise AssertionError("no webhook was deleted")

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        encoding = ENCODINGS[request.media_type]
        query = SyncQuery.of(request)
        pairs = read_batches(encoding.read_pairs(), request.body)
        answer = self._slave.answer(query, pairs)
        try:
            yield SyncAnswer(
                answer.store.uuid,
                answer.store.generation,
                answer.through,
                request.media_type,
                encoding.encode_records(answer.records),
            )
        finally:
            answer.close()


class Spent:
    """The operations of a store since this object was made."""

    def __init__(self, store: FirestoreStore) -> None:
        self._store = store
        self._before = store.operations

    def __call__(self) -> tuple[dict[str, int], dict[str, int], dict[str, int], int]:
        """Reads, writes and deletes by collection, and commits."""
        now, before = self._store.operations, self._before
        return (
            dict(Counter(now.reads) - Counter(before.reads)),
            dict(Counter(now.writes) - Counter(before.writes)),
            dict(Counter(now.deletes) - Counter(before.deletes)),
            now.commits - before.commits,
        )


@pytest.fixture
def database() -> Iterator[Database]:
    with opened_database() as database:
        yield database


@pytest.fixture
def store(database: Database) -> Iterator[FirestoreStore]:
    store = connect_store(database)
    yield store
    store.close()


def make_receiver(store: FirestoreStore | MemoryStore, clock: SimulatedClock) -> Receiver:
    role: Role = "master" if isinstance(store, FirestoreStore) else "slave"
    settings = Settings.from_env(role, {"STORE": "memory:", "SYNC_AUTH": "none", "LINGER_MS": "0"})
    return Receiver(settings, store, clock)


def receive_all(
    receiver: Receiver, clock: SimulatedClock, batches: int, size: int, step_s: float
) -> None:
    """``batches`` of ``size`` webhooks each, all of a batch committed at once."""
    buffer = receiver.open()
    for batch in range(batches):
        for number in range(size):
            payload = b'{"batch":%d,"number":%d}' % (batch, number)
            hash_, meta = receiver.identifier.identify(payload, Meta("shop"))
            buffer.add(hash_, payload, meta)
        buffer.flush()
        clock.sleep(step_s)


def test_receiving_webhooks_in_b_batches_costs_b_writes(store: FirestoreStore) -> None:
    clock = SimulatedClock(START)
    receiver = make_receiver(store, clock)
    receiver.open()
    spent = Spent(store)
    receive_all(receiver, clock, batches=20, size=50, step_s=0.1)
    assert spent() == ({}, {"segments": 20}, {}, 20)


def test_receiving_reads_a_mark_every_quarter_of_the_commit_timeout(store: FirestoreStore) -> None:
    """``COMMIT_TIMEOUT_S`` is 10; eleven webhooks, one a second, each a commit of its own."""
    clock = SimulatedClock(START)
    receiver = make_receiver(store, clock)
    receiver.open()
    spent = Spent(store)
    for number in range(11):
        receiver.receive(b'{"number":%d}' % number, Meta("shop"))
        clock.sleep(1)
    # Before the webhooks 0, 3, 6 and 9.
    assert spent() == ({"marks": 4}, {"segments": 11}, {}, 11)


def test_what_a_status_and_a_check_of_health_cost(store: FirestoreStore) -> None:
    clock = SimulatedClock(START)
    receiver = make_receiver(store, clock)
    receiver.receive(b"{}", Meta())
    receiver.status()
    clock.sleep(10)
    spent = Spent(store)
    receiver.status()
    assert spent() == ({"meta": 1, "gaps": 1, "segments": 2, "quarantine": 2}, {}, {}, 0)
    spent = Spent(store)
    receiver.check()
    assert spent() == ({}, {}, {"meta": 1}, 1)


def test_a_batch_over_several_buckets_costs_a_segment_for_each_more(store: FirestoreStore) -> None:
    records = [Record(Pair(START + 4000 * i, i), b"{}") for i in range(10)]  # 36 s: 4 buckets
    spent = Spent(store)
    store.append(records)
    assert spent() == ({}, {"segments": 4}, {}, 1)


def test_a_repeated_batch_adds_no_segment(store: FirestoreStore) -> None:
    records = [Record(Pair(START + i, i), b"{}") for i in range(10)]
    store.append(records)
    store.append(records[::-1])
    spent = Spent(store)
    assert len(list(store.pairs(0, MAX_INTEGER))) == 10
    assert spent()[0] == {"segments": 1}


def test_a_sync_reads_pairs_and_of_records_only_samples(store: FirestoreStore) -> None:
    """1,000 webhooks that both have, and then seven more that only the slave has."""
    clock = SimulatedClock(START)
    mine, theirs = make_receiver(store, clock), make_receiver(MemoryStore(), clock)
    master = Master(mine, store, [DirectClient(Slave(theirs))])
    receive_all(mine, clock, batches=20, size=50, step_s=0)
    receive_all(theirs, clock, batches=20, size=50, step_s=0)
    clock.sleep(200)
    spent = Spent(store)
    report = master.sync()
    assert report.ok
    assert report.slaves[0].pairs_sent == 1000
    reads, writes, deletes, _ = spent()
    assert reads == {"segments": 20, "leases": 1, "slaves": 1, "marks": 2}
    # One more for the tombstones, unless there were none less than ten seconds ago, as here.
    assert sum(reads.values()) + 1 <= 25
    assert writes == {"leases": 4, "slaves": 2, "marks": 1}
    assert deletes == {"leases": 2}

    for number in range(7):
        theirs.receive(b'{"only":%d}' % number, Meta("shop"))
    clock.sleep(200)
    spent = Spent(store)
    report = master.sync()
    assert (report.ok, report.slaves[0].saved) == (True, 7)
    reads, writes, _, _ = spent()
    # The segments of the window and of a span around it. Then, to find copies that differ, for each
    # of the seven its segment, and once the records of all.
    assert reads["segments"] == 20 + 7 + 1
    assert writes["segments"] == 1


def test_retention_costs_a_delete_for_each_document(store: FirestoreStore) -> None:
    noise = random.Random(1).randbytes(2_000_000)
    store.append([Record(Pair(START + i, i), b"{}") for i in range(30)])
    store.append([Record(Pair(START + 40_000, 1), noise)])
    spent = Spent(store)
    assert store.prune(START + 60_000) == 31
    assert spent() == ({"segments": 2}, {}, {"segments": 2, "parts": 3}, 1)


def test_copies_for_queries_cost_a_write_and_a_delete_each(database: Database) -> None:
    store = connect_store(database, native_data=True)
    spent = Spent(store)
    store.append([Record(Pair(START + i, i), b"{}") for i in range(30)])
    assert spent() == ({}, {"segments": 1, "webhooks": 30}, {}, 1)
    spent = Spent(store)
    assert store.prune(START + 60_000) == 30
    assert spent() == ({"segments": 1}, {}, {"segments": 1, "webhooks": 30}, 1)
    store.close()


def test_retention_of_1000_webhooks_in_20_commits(store: FirestoreStore) -> None:
    clock = SimulatedClock(START)
    receive_all(make_receiver(store, clock), clock, batches=20, size=50, step_s=0.1)
    spent = Spent(store)
    assert store.prune(START + 60_000) == 1000
    assert spent() == ({"segments": 20}, {}, {"segments": 20}, 1)


def test_a_segment_is_read_once_for_all_its_pairs(
    store: FirestoreStore, database: Database
) -> None:
    """After a scan nothing else is read to find a pair; without one, the pairs of its bucket."""
    for batch in range(10):
        store.append([Record(Pair(START + 10 * i + batch, i), b"{}") for i in range(100)])
    spent = Spent(store)
    pairs = list(store.pairs(START, START + BUCKET_MS))
    assert len(pairs) == 1000
    assert len(list(store.fetch(pairs))) == 1000
    assert spent()[0] == {"segments": 10 + 10}
    for start in range(0, 1000, 64):  # as a slave requests them
        assert len(list(store.fetch(pairs[start : start + 64]))) == len(pairs[start : start + 64])
    assert spent()[0] == {"segments": 10 + 10}
    other = connect_store(database)
    spent = Spent(other)
    assert [record.pair for record in other.fetch([pairs[500]])] == [pairs[500]]
    assert spent()[0]["segments"] == 10 + 1
    other.close()


def test_stored_bytes_are_a_tenth_of_the_payloads(
    store: FirestoreStore, database: Database
) -> None:
    """GitHub's payloads in batches of 20, no kind twice in a batch, each with an id and a key."""
    payloads = [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]
    source = random.Random(1)
    total = 0
    for batch in range(4):
        chosen = source.sample(payloads, 20)
        ids = [f"{source.getrandbits(128):032x}" for _ in range(2 * len(chosen))]
        store.append(
            [
                Record(
                    Pair(START + BUCKET_MS * batch + number, source.getrandbits(32)),
                    payload,
                    Meta("github", {"x-github-delivery": ids.pop()}, key=ids.pop()),
                )
                for number, payload in enumerate(chosen)
            ]
        )
        total += sum(map(len, chosen))
    segments = list(database.scan(RangeQuery("segments", "key"), 10))
    assert len(segments) == 4
    assert sum(map(measure_document, segments)) < total / 10


def test_a_slave_makes_each_report_durable(store: FirestoreStore) -> None:
    """Another instance on the same database knows its stint."""
    clock = SimulatedClock(START)
    one, other = (Slave(make_receiver(store, clock)) for _ in range(2))
    first = one.describe()
    clock.sleep(60)
    spent = Spent(store)
    info = one.describe(Stint(first.stint, first.horizon))
    assert info.continues
    reads, writes, deletes, _ = spent()
    assert (reads["marks"], reads["gaps"]) == (4, 1)
    assert (writes, deletes) == ({"marks": 2}, {"marks": 2})
    known = other.describe(Stint(info.stint, info.horizon))
    assert known.continues
    assert known.stint != info.stint


def test_what_one_run_of_a_masters_retention_reads(
    store: FirestoreStore, database: Database
) -> None:
    """Two writers, one segment an hour each; the consumer has half of the first writer's."""
    other = connect_store(database)
    hour, hours = 3_600_000, range(10)
    begin = START - START % hour
    for number in hours:
        store.append([Record(Pair(begin + number * hour, 1), bytes(100))])
        if number == 4:
            position = store.newest_arrival()
    for number in hours:
        other.append([Record(Pair(begin + number * hour + 1, 2), bytes(100))])
    spent = Spent(store)
    assert store.find_first_after(position) == begin
    # The oldest one; the two writers, with the end of their list; 5 and 10 keys after the position.
    assert spent()[0] == {"segments": 1 + 3 + 5 + 10}
    spent = Spent(store)
    assert store.find_first_after(position) == begin
    assert spent()[0] == {"segments": 1 + 3 + 1 + 1}  # no key twice
    store.append([Record(Pair(begin - 7 * hour, 3), bytes(100))])  # recovered
    assert store.find_first_after(position) == begin - 7 * hour
    assert store.prune(begin + 5 * hour) == 11
    assert store.find_first_after(position) == begin + 5 * hour
    spent = Spent(store)
    assert store.find_first_after(store.newest_arrival()) is None

    size = sum(record.size for record in store.records(0, MAX_INTEGER))
    spent = Spent(store)
    assert store.find_size_cut(size, MAX_INTEGER) == 0
    assert spent()[0] == {"segments": 2 + 1}  # the oldest, the newest, and the sum
    spent = Spent(store)
    assert store.find_size_cut(size * 3 // 5, MAX_INTEGER) == begin + 7 * hour
    assert spent()[0] == {"segments": 3 + 8}  # the sizes before the newest hour, in one request
    spent = Spent(store)
    assert store.find_size_cut(size * 3 // 5, MAX_INTEGER) == begin + 7 * hour
    assert spent()[0] == {"segments": 3}
    store.prune(begin + 6 * hour)  # as far as a consumer allows
    assert store.find_size_cut(size * 3 // 5, MAX_INTEGER) == begin + 7 * hour
    store.prune(begin + 7 * hour)
    store.append([Record(Pair(begin + 9 * hour + 5, 4), bytes(100))])
    assert store.find_size_cut(size * 3 // 5, MAX_INTEGER) == begin + 8 * hour
    other.close()
