"""The cost promise: documents read and written for receiving and for syncing, counted.

What is counted is what Firestore bills (see ``docs/firestore.md``, whose table follows from it).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.documents import BUCKET_MS
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.epochs import Stint
from portable_core.ingest.receiver import Receiver
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, wait_on
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import ENCODINGS, read_batches
from tests.support.firestore_emulator import opened_store

START = 1_700_000_000_000
assert START % BUCKET_MS == 0


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
def store() -> Iterator[FirestoreStore]:
    with opened_store() as store:
        yield store


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


def test_receiving_n_webhooks_in_b_batches_costs_n_plus_b_writes(store: FirestoreStore) -> None:
    clock = SimulatedClock(START)
    receiver = make_receiver(store, clock)
    receiver.open()
    spent = Spent(store)
    receive_all(receiver, clock, batches=20, size=50, step_s=0.1)
    assert spent() == ({}, {"webhooks": 1000, "pages": 20}, {}, 20)


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
    assert spent() == ({"marks": 4}, {"webhooks": 11, "pages": 11}, {}, 11)


def test_what_a_status_and_a_check_of_health_cost(store: FirestoreStore) -> None:
    clock = SimulatedClock(START)
    receiver = make_receiver(store, clock)
    receiver.receive(b"{}", Meta())
    receiver.status()
    clock.sleep(10)
    spent = Spent(store)
    receiver.status()
    assert spent() == ({"meta": 1, "gaps": 1, "pages": 2, "quarantine": 1}, {}, {}, 0)
    spent = Spent(store)
    receiver.check()
    assert spent() == ({}, {}, {"meta": 1}, 1)


def test_a_batch_over_several_buckets_costs_a_page_for_each_more(store: FirestoreStore) -> None:
    records = [Record(Pair(START + 4000 * i, i), b"{}") for i in range(10)]  # 36 s: 4 buckets
    spent = Spent(store)
    store.append(records)
    assert spent() == ({}, {"webhooks": 10, "pages": 4}, {}, 1)


def test_a_repeated_batch_adds_no_page(store: FirestoreStore) -> None:
    records = [Record(Pair(START + i, i), b"{}") for i in range(10)]
    store.append(records)
    store.append(records[::-1])
    spent = Spent(store)
    assert len(list(store.pairs(0, MAX_INTEGER))) == 10
    assert spent()[0] == {"meta": 1, "pages": 1}


def test_a_sync_reads_pages_and_of_records_only_samples(store: FirestoreStore) -> None:
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
    assert reads == {"pages": 20, "meta": 1, "leases": 1, "slaves": 1, "marks": 1}
    assert writes == {"leases": 4, "slaves": 2, "marks": 1}
    assert deletes == {"leases": 2}

    for number in range(7):
        theirs.receive(b'{"only":%d}' % number, Meta("shop"))
    clock.sleep(200)
    spent = Spent(store)
    report = master.sync()
    assert (report.ok, report.slaves[0].saved) == (True, 7)
    reads, writes, _, _ = spent()
    # The pages of the window and of a span around it. Then, to find copies that differ, for each of
    # the seven its page and the six others.
    assert (reads["pages"], reads["webhooks"]) == (20 + 7, 7 * 6)
    assert (writes["webhooks"], writes["pages"]) == (7, 1)


def test_retention_costs_a_delete_for_each_document(store: FirestoreStore) -> None:
    store.append([Record(Pair(START + i, i), b"{}") for i in range(30)])
    store.append([Record(Pair(START + 40_000, 1), bytes(2_000_000))])
    spent = Spent(store)
    assert store.prune(START + 60_000) == 31
    assert spent() == ({"pages": 2}, {}, {"webhooks": 31, "pages": 2, "parts": 3}, 1)


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
