"""Hand-over: in order, confirmed request by request, retried as long as there is time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from random import Random

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import HandOverFailed
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.hand_over import FIRST_BYTES, HAND_OVER_S, HandOver
from portable_core.sync.report import HandOverReport
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import ENCODINGS


class Master:
    """Accepts each request in ``takes_s``; fails as ``fail`` says."""

    def __init__(self, clock: SimulatedClock, takes_s: float = 0.01) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.requests: list[list[Pair]] = []
        self.confirmed: list[Pair] = []
        self.failures: list[HandOverFailed] = []

    def send(self, chunks: Iterable[bytes], media_type: str, timeout_s: float) -> HandOverReport:
        reader = ENCODINGS[media_type].read_records()
        pairs = [record.pair for record in reader.feed(b"".join(chunks))]
        reader.finish()
        self.requests.append(pairs)
        if self.takes_s > timeout_s:
            self.clock.sleep(timeout_s)
            raise HandOverFailed("not done in time", 1)
        self.clock.sleep(self.takes_s)
        if self.failures:
            raise self.failures.pop(0)
        self.confirmed += pairs
        return HandOverReport(len(pairs), len(pairs), 0, 0)


class CountingStore(MemoryStore):
    """Counts the records that are read with their payloads."""

    read = 0

    def records(self, start: int, end: int) -> Iterator[Record]:
        for record in super().records(start, end):
            self.read += 1
            yield record


class Rig:
    def __init__(self, takes_s: float = 0.01) -> None:
        self.clock = SimulatedClock()
        self.store = CountingStore()
        env = {"STORE": "memory:", "SYNC_AUTH": "none", "LINGER_MS": "0"}
        settings = Settings.from_env("slave", env)
        self.slave = Slave(Receiver(settings, self.store, self.clock))
        self.master = Master(self.clock, takes_s)
        self.drained = threading.Event()
        self.drained.set()

    def receive(self, count: int, size: int = 10) -> list[Pair]:
        """All in the same millisecond: only the hash tells which of them were confirmed."""
        return sorted(
            self.slave.receiver.receive(b'{"n":%d,"p":"%b"}' % (number, b"x" * size), Meta())
            for number in range(count)
        )

    def run(self) -> bool:
        return HandOver(self.slave, self.master.send, self.clock).run(self.drained)


def test_an_empty_store_asks_nothing_of_the_master() -> None:
    rig = Rig()
    assert rig.run()
    assert rig.master.requests == []


def test_requests_are_small_at_first_and_grow_where_they_are_quick() -> None:
    rig = Rig()
    pairs = rig.receive(200, size=FIRST_BYTES // 10)
    assert rig.run()
    assert rig.master.confirmed == pairs
    sizes = list(map(len, rig.master.requests))
    assert sizes[0] == 10
    assert sizes[1:-1] == sorted(sizes[1:-1])
    assert len(sizes) <= 6


def test_a_payload_larger_than_a_request_goes_alone() -> None:
    rig = Rig()
    pairs = rig.receive(3, size=2 * FIRST_BYTES)
    assert rig.run()
    assert rig.master.confirmed == pairs
    assert len(rig.master.requests[0]) == 1


def test_it_begins_where_the_last_window_began() -> None:
    rig = Rig()
    rig.receive(5)
    rig.clock.sleep(10)
    start = rig.clock.now()
    pairs = rig.receive(5)
    query = SyncQuery(start, start + 1_000_000, 120_000, "crc32c")
    rig.slave.answer(query, []).close()
    assert rig.run()
    assert rig.master.confirmed == pairs


@pytest.mark.parametrize("seed", range(20))
def test_a_temporary_failure_is_retried(seed: int) -> None:
    random = Random(seed)
    rig = Rig()
    pairs = rig.receive(50, size=random.choice([10, FIRST_BYTES // 4]))
    rig.master.failures = [HandOverFailed("busy", 1) for _ in range(random.randint(1, 5))]
    assert rig.run()
    assert rig.master.confirmed == pairs


def test_a_permanent_failure_is_not_retried(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.receive(7)
    rig.master.failures = [HandOverFailed("answered 401")]
    assert not rig.run()
    assert len(rig.master.requests) == 1
    assert "the master may lack 7 records that were not handed over" in caplog.text
    assert "answered 401" in caplog.text


def test_a_slow_master_confirms_what_it_can(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(takes_s=2.0)
    pairs = rig.receive(100, size=FIRST_BYTES // 10)
    began = rig.clock.monotonic()
    assert not rig.run()
    assert rig.master.confirmed == pairs[:30]  # three requests of ten fit into the time
    assert rig.clock.monotonic() - began <= HAND_OVER_S
    assert "the master may lack 70 records that were not handed over" in caplog.text
    # Four requests of ten and a record ahead, each read on from the millisecond that all have in
    # common; what is left is counted without its payloads.
    assert rig.store.read == 11 + 21 + 31 + 41


def test_records_added_while_the_server_drains_are_handed_over_too() -> None:
    rig = Rig()
    rig.drained.clear()
    early = rig.receive(3)
    done = []
    thread = threading.Thread(target=lambda: done.append(rig.run()))
    thread.start()
    while len(rig.master.confirmed) < len(early):
        rig.drained.wait(0.01)
        rig.clock.sleep(0.001)
    rig.clock.sleep(1)
    late = [rig.slave.receiver.receive(b'{"late":true}', Meta())]
    rig.slave.receiver.drain()
    rig.drained.set()
    thread.join(20)
    assert done == [True]
    assert rig.master.confirmed == early + late
