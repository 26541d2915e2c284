"""The stints of a store: what is durable before a report, and what a store knows later."""

from __future__ import annotations

import threading

import pytest

from loadtests.simulation.disk import Disk
from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.epochs import Stint
from portable_core.errors import StoreError
from portable_core.ingest.receiver import Receiver
from portable_core.ingest.stints import MAX_STINTS, Stints
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave

ENV = {"SYNC_AUTH": "none"}


class FailingStore(MemoryStore):
    """Its marks cannot be raised while ``failing``."""

    failing = False

    def raise_mark(self, name: str, value: int) -> int:
        if self.failing:
            raise StoreError("the disk fails")
        return super().raise_mark(name, value)


def make_slave(
    store: MemoryStore, clock: SimulatedClock | None = None, kind: str = "sqlite:x", **env: str
) -> Slave:
    settings = Settings.from_env("slave", {**ENV, "STORE": kind, **env})
    return Slave(Receiver(settings, store, clock or SimulatedClock()))


def report(slave: Slave) -> Stint:
    info = slave.describe()
    return Stint(info.stint, info.horizon)


def test_each_process_has_a_stint_that_later_ones_know() -> None:
    store, clock = MemoryStore(), SimulatedClock()
    stints = []
    for _ in range(3):
        clock.sleep(1)
        stints.append(report(make_slave(store, clock)))
    assert len({stint.id for stint in stints}) == 3
    slave = make_slave(store, clock)
    assert [slave.describe(stint).continues for stint in stints] == [True] * 3
    newest = stints[-1]
    assert slave.describe(newest._replace(horizon=newest.horizon + 1)).continues is False
    assert slave.describe(Stint("f" * 32, 0)).continues is False
    assert slave.describe().continues is None


def test_instances_on_one_database_know_the_stints_of_each_other() -> None:
    disk, clock = Disk("0f8fad5b-d9cb-469f-a165-70867728950e", shared=True), SimulatedClock()
    one, two = make_slave(disk, clock), make_slave(disk, clock)
    first, second = report(one), report(two)
    assert first.id != second.id
    assert one.describe(second).continues is two.describe(first).continues is True


def test_a_start_without_a_report_writes_nothing() -> None:
    store = MemoryStore()
    slave = make_slave(store)
    slave.receiver.receive(b"{}", Meta())
    assert store.marks("stint-") == {}
    slave.describe()
    assert len(store.marks("stint-")) == 1


def test_few_stints_are_kept_and_the_newest_ones() -> None:
    store, clock = MemoryStore(), SimulatedClock()
    stints = []
    for _ in range(MAX_STINTS + 10):
        clock.sleep(1)
        stints.append(report(make_slave(store, clock)))
    assert len(store.marks("stint-")) == MAX_STINTS
    known = [make_slave(store, clock).receiver.knows(stint) for stint in stints]
    assert known == [False] * 10 + [True] * MAX_STINTS


def test_a_report_that_cannot_be_made_durable_names_an_earlier_stint() -> None:
    """So a master can still empty a slave whose disk fails, and no store lacks what it has seen."""
    store, clock = FailingStore(), SimulatedClock()
    before = report(make_slave(store, clock))
    store.failing = True
    clock.sleep(1)
    during = report(make_slave(store, clock))
    assert during == before
    store.failing = False
    assert make_slave(store, clock).receiver.knows(during)
    store = FailingStore()
    store.failing = True
    assert report(make_slave(store, clock)).id == ""


def test_a_store_that_is_restored_under_a_process_gets_another_stint() -> None:
    store = Disk("0f8fad5b-d9cb-469f-a165-70867728950e", shared=True)
    store.open("crc32c")
    image = store.copy()
    stints = Stints(store)
    stints.note(100)
    first = stints.find(100)
    store.restore(image)
    stints.note(200)
    assert stints.find(200) != first
    assert not stints.knows(Stint(first, 100))


def test_stints_of_many_threads() -> None:
    store = MemoryStore()
    slave = make_slave(store)
    slave.receiver.open()
    threads = [threading.Thread(target=slave.describe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.marks("stint-")) == 1


@pytest.mark.parametrize(
    ("kind", "env", "ephemeral"),
    [
        ("memory:", {}, True),
        ("sqlite:x", {}, False),
        ("sqlite:x", {"HAND_OVER": "http://master"}, True),
        ("sqlite:x", {"ALLOW_EPHEMERAL": "1"}, True),
        ("firestore:a/b", {"ALLOW_EPHEMERAL": "1"}, False),
    ],
)
def test_a_slave_whose_store_ends_with_it_is_no_loss(
    kind: str, env: dict[str, str], *, ephemeral: bool
) -> None:
    clock, store = SimulatedClock(), MemoryStore()
    slaves = [make_slave(MemoryStore(), clock, kind, **env) for _ in range(2)]
    client = SimulatedClient("s", lambda: slaves[0])
    settings = Settings.from_env("master", {**ENV, "STORE": "memory:"})
    master = Master(Receiver(settings, store, clock), store, [client])
    for _ in range(2):
        slaves[0].receiver.receive(b'{"at":%d}' % clock.now(), Meta())
        clock.sleep(300)
        (synced,) = master.sync().slaves
        assert (synced.error, synced.saved) == ("", 1)
        del slaves[:-1]
    assert slaves[0].describe().ephemeral == ephemeral
    assert synced.losses == (0 if ephemeral else 1)
