"""Firestore behind a faulty network: nothing lost, nothing twice, and errors with advice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore import store as store_module
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import BatchTooLate, LeaseHeld, StoreError, Unavailable
from portable_core.ingest.receiver import Receiver
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator
from tests.support.nodes.cutting_proxy import CuttingProxy, run_proxy

ALL = (0, MAX_INTEGER + 1)


def make_records(count: int, step: int = 10) -> list[Record]:
    return [Record(Pair(1_000_000 + step * i, i), b'{"n":%d}' % i) for i in range(count)]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    with run_proxy(use_emulator()) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        yield proxy


@pytest.fixture
def store(proxy: CuttingProxy) -> Iterator[FirestoreStore]:
    store = FirestoreStore(PROJECT, name_database(), commit_timeout_ms=10_000)
    store.open("crc32c")
    yield store
    store.close()


def test_a_scan_continues_where_its_stream_broke(
    store: FirestoreStore, proxy: CuttingProxy
) -> None:
    records = make_records(150, step=10_000)  # a page for each
    store.append(records)
    for messages in (1, 2, 7, 40, 63, 64, 65, 100):
        proxy.cut_after_messages(messages)
        assert list(store.pairs(*ALL)) == [record.pair for record in records]
    for messages in (5, 70):
        proxy.cut_after_messages(messages)
        assert list(store.records(*ALL)) == records
    assert proxy.cuts == 10
    assert store.operations.retries >= 10


def test_a_descending_scan_continues_too(store: FirestoreStore, proxy: CuttingProxy) -> None:
    records = make_records(40, step=10_000)
    store.append(records)
    for messages in (1, 10, 20):
        proxy.cut_after_messages(messages)
        got = store.latest(MAX_INTEGER, 30)
        assert got == [record.pair for record in records[:9:-1]]
    assert proxy.cuts == 3


def test_repeating_a_commit_whose_response_was_lost_changes_nothing(
    store: FirestoreStore, proxy: CuttingProxy
) -> None:
    records = make_records(50)
    proxy.cut_before_answer()
    store.append(records, 9.0)
    assert proxy.cuts == 1
    assert store.operations.retries == 1
    assert list(store.records(*ALL)) == records
    before = sum(store.operations.reads.values())
    list(store.pairs(*ALL))
    assert sum(store.operations.reads.values()) - before == 1  # still one segment


def test_each_kind_of_write_may_lose_its_response(
    store: FirestoreStore, proxy: CuttingProxy
) -> None:
    proxy.cut_before_answer()
    assert store.raise_mark("asked", 7) == 7
    proxy.cut_before_answer()
    lease = store.acquire_lease("a", 1000, 60_000)
    with pytest.raises(LeaseHeld):
        store.acquire_lease("b", 1000, 60_000)
    proxy.cut_before_answer()
    store.save_records(lease, make_records(3))
    proxy.cut_before_answer()
    store.release_lease(lease)
    assert store.acquire_lease("b", 1000, 60_000).token > lease.token
    proxy.cut_before_answer()
    assert store.prune(MAX_INTEGER) == 3
    assert proxy.cuts == 5
    assert (store.mark("asked"), store.first()) == (7, None)


def test_an_acquisition_that_did_happen_is_recognized(
    store: FirestoreStore, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response to the commit is lost, not the response to the read before it."""
    commit = Database.commit

    def commit_and_lose(database: Database, writes: Sequence[object], **options: float) -> int:
        proxy.cut_before_answer()
        return commit(database, writes, timeout_s=options.get("timeout_s", 9.0))

    monkeypatch.setattr(Database, "commit", commit_and_lose)
    lease = store.acquire_lease("a", 1000, 60_000)
    assert proxy.cuts == 1
    store.save_records(lease, make_records(2))
    assert proxy.cuts == 2


def test_silence_ends_with_the_deadline(store: FirestoreStore, proxy: CuttingProxy) -> None:
    proxy.swallow()
    started = time.monotonic()
    with pytest.raises(StoreError, match="Firestore"):
        store.append(make_records(1), 1.0)
    assert time.monotonic() - started < 5


def test_a_sender_gets_retry_after(store: FirestoreStore, proxy: CuttingProxy) -> None:
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "SPAN_S": "4"}
    receiver = Receiver(Settings.from_env("slave", env), store, SystemClock())
    pair = receiver.receive(b'{"a":1}', Meta())
    proxy.swallow()
    with pytest.raises(Unavailable) as caught:
        receiver.receive(b'{"a":2}', Meta())
    assert (caught.value.status, bool(caught.value.retry_after)) == (503, True)
    store.close()
    proxy.let_through()
    store.open("crc32c")
    assert list(store.pairs(*ALL)) == [pair]


def test_an_unreachable_server_is_a_store_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr("portable_core.adapters.firestore.client.TIMEOUT_S", 1.0)
    store = FirestoreStore(PROJECT, "nowhere", commit_timeout_ms=10_000)
    with pytest.raises(StoreError, match=r"cannot be reached\. Try again"):
        store.open("crc32c")
    with pytest.raises(StoreError, match="not open"):
        store.check()


def test_the_error_for_missing_credentials_has_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    store = FirestoreStore(PROJECT, "nowhere", commit_timeout_ms=10_000)
    with pytest.raises(StoreError, match=r"no credentials.*gcloud auth"):
        store.open("crc32c")


@pytest.mark.parametrize("deadline", [1.0, 9.0])
def test_a_writer_whose_clock_is_behind_fails(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    store.append(make_records(1), deadline)
    slow = SimpleNamespace(time=lambda: time.time() - deadline, monotonic=time.monotonic)
    monkeypatch.setattr(store_module, "time", slow)
    with pytest.raises(BatchTooLate, match="correct this machine's clock"):
        store.append(make_records(1), deadline)
    store.append(make_records(1))  # what a master recovers has no time to keep


def test_a_clock_that_is_ahead_fails_the_check(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check()
    fast = SimpleNamespace(time=lambda: time.time() + 2, monotonic=time.monotonic)
    monkeypatch.setattr(store_module, "time", fast)
    with pytest.raises(StoreError, match=r"clock is [12]\.\d+ s ahead"):
        store.check()
