"""A master removes only what is complete and delivered, and never fetches it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.sqlite import SqliteStore
from portable_core.epochs import NotedLoss
from portable_core.ingest.receiver import Receiver
from portable_core.ports import MasterStore, Quarantined, SlaveState
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.floor import BELOW_FLOOR, read_floor
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.retention import ITSELF, ConsumerHold, plan_removal
from portable_core.sync.slave import Slave
from portable_core.webhooks.consumers import Consumers

HOUR = 3_600_000
SPAN = 120_000
KEPT_S = 6 * 3600


class Rig:
    """A master that keeps records for six hours, and slaves that keep all."""

    begins = 1_700_000_000_000

    def __init__(self, store: MasterStore, **env: str) -> None:
        self.clock = SimulatedClock(self.begins)
        self.store = store
        self.disks: dict[str, MemoryStore] = {}
        self.slaves: dict[str, Slave] = {}
        self.number = 0
        self.env = {"RETENTION_S": str(KEPT_S), **env}
        self.add_slave("a")

    def add_slave(self, name: str, disk: MemoryStore | None = None) -> None:
        self.disks[name] = disk or MemoryStore()
        self.slaves[name] = Slave(self._make_receiver("slave", self.disks[name]))
        self.start_master()

    def remove_slave(self, name: str) -> None:
        del self.slaves[name]
        self.start_master()

    def start_master(self) -> None:
        receiver = self._make_receiver("master", self.store)
        self.consumers = Consumers(self.store, self.clock.now, receiver.open)
        clients = [
            SimulatedClient(name, partial(self.slaves.__getitem__, name)) for name in self.slaves
        ]
        self.master = Master(receiver, self.store, clients, find_holds=self.consumers.find_holds)
        receiver.open()

    def _make_receiver(self, role: Role, store: MasterStore) -> Receiver:
        env = {"STORE": "memory:", "SYNC_AUTH": "none", "RETENTION_S": "99999999"}
        env |= self.env if role == "master" else {}
        return Receiver(Settings.from_env(role, env), store, self.clock)

    def receive(self, hours: int = 1, *, at: str = "a") -> list[bytes]:
        """Receive a webhook every half hour, on a slave alone."""
        payloads = []
        for _ in range(2 * hours):
            self.number += 1
            payloads.append(b'{"n":%d}' % self.number)
            self.slaves[at].receiver.receive(payloads[-1], Meta())
            self.clock.sleep(1800)
        return payloads

    def sync(self) -> dict[str, SlaveReport]:
        """Sync, and let retention run at the end of the sync."""
        self.clock.sleep(600)
        return {report.slave: report for report in self.master.sync().slaves}

    def read(self) -> list[bytes]:
        return [record.payload for record in self.store.records(0, MAX_INTEGER + 1)]

    def losses(self, name: str = "a") -> tuple[NotedLoss, ...]:
        return self.store.slave_states().get(name, SlaveState()).losses


@pytest.fixture(params=["memory", "sqlite"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        sqlite = request.param == "sqlite"
        rig = Rig(SqliteStore(tmp_path / "store") if sqlite else MemoryStore())
        stack.callback(rig.store.close)
        yield rig


@pytest.fixture
def light() -> Rig:
    return Rig(MemoryStore())


def test_old_records_go_and_are_not_fetched_again(rig: Rig) -> None:
    sent = rig.receive(12)
    assert rig.sync()["a"].saved == 24
    left = rig.read()
    assert left == sent[-len(left) :]
    assert 12 <= len(left) <= 15  # whole hours
    floor = read_floor(rig.store)
    first = rig.store.first()
    assert first is not None
    assert first - HOUR - SPAN < floor <= first + SPAN
    rig.disks["a"].begin_generation()  # everything is compared anew
    report = rig.sync()["a"]
    assert (report.saved, report.windows > 0) == (0, True)
    assert rig.losses() == ()
    assert rig.read() == left


def test_a_record_whose_twin_was_removed_is_not_fetched_again(light: Rig) -> None:
    """The master's record lies before the cut, the slave's a few seconds after it."""
    light.receive(2)
    start = light.clock.now()
    light.clock.sleep((HOUR - start % HOUR) / 1000 - 2)
    light.master.receiver.receive(b'{"twin":1}', Meta())
    light.clock.sleep(4)
    light.slaves["a"].receiver.receive(b'{"twin":1}', Meta())
    cut = light.clock.now() // HOUR * HOUR
    light.clock.sleep(KEPT_S)
    light.sync()
    assert light.store.first() is None
    assert read_floor(light.store) == cut + SPAN
    light.disks["a"].begin_generation()
    assert light.sync()["a"].saved == 0


def test_nothing_goes_that_is_not_complete_for_each_slave(light: Rig) -> None:
    light.add_slave("b")
    light.sync()
    del light.slaves["b"]  # it does not respond; the master still has its name
    sent = light.receive(12)
    with pytest.raises(KeyError):
        light.master.sync()
    light.master.retention.retain(now=True)
    assert light.read() == sent
    assert "complete only up to" in light.master.retention.describe_waits()["b"]


def test_nothing_goes_that_a_consumer_has_not_got(rig: Rig) -> None:
    rig.consumers.save("shop", "now")
    sent = rig.receive(4)
    rig.sync()
    rig.consumers.save("shop", "now")
    sent += rig.receive(8)
    rig.sync()
    left = rig.read()
    assert left == sent[-len(left) :]
    assert sent[8] in left
    assert len(left) < 20
    assert list(rig.master.retention.describe_waits()) == ["shop"]
    rig.consumers.save("shop", "now")
    rig.sync()
    assert len(rig.read()) < 16
    assert rig.master.retention.describe_waits() == {}
    assert rig.consumers.describe_one("shop").missed is None


def test_a_late_record_of_an_old_hour_waits_for_the_consumer(rig: Rig) -> None:
    rig.receive(3)
    rig.sync()
    rig.consumers.save("shop", "now")
    rig.add_slave("b")
    late = Record(Pair(rig.clock.now() - 3 * HOUR, 0), b'{"late":1}', Meta())
    pair = rig.slaves["b"].receiver.identifier.identify(late.payload, late.meta)
    rig.slaves["b"].receiver.open()
    record = Record(Pair(late.pair.timestamp, pair.hash), late.payload, pair.meta)
    rig.disks["b"].append([record])
    rig.clock.sleep(KEPT_S + 3600)
    assert rig.sync()["b"].saved == 1
    assert b'{"late":1}' in rig.read()
    rig.consumers.save("shop", "now")
    rig.sync()
    assert rig.read() == []


def test_a_slave_that_comes_late_is_fetched_from_the_floor_on(light: Rig) -> None:
    light.receive(12)
    light.add_slave("b")
    old = light.receive(1, at="b")[0]
    first = light.disks["b"].first()
    light.remove_slave("b")
    light.receive(12)
    light.sync()
    floor = read_floor(light.store)
    disk = light.disks["b"]
    new = b'{"new":1}'
    light.add_slave("b", disk)
    light.slaves["b"].receiver.receive(new, Meta())
    report = light.sync()["b"]
    assert report.saved == 1
    assert new in light.read()
    assert old not in light.read()
    (loss,) = light.losses("b")
    assert (loss.reason, loss.start, loss.end) == (BELOW_FLOOR, first, floor)
    assert report.losses == 1
    light.clock.sleep(KEPT_S + 3600)
    light.sync()  # a loss before the floor keeps nothing
    assert light.read() == []


def test_a_slave_that_comes_back_has_a_gap_from_its_cursor_on(light: Rig) -> None:
    light.add_slave("b")
    light.receive(1, at="b")
    light.sync()
    cursor = light.store.slave_states()["b"].cursor
    slave = light.slaves["b"]
    light.remove_slave("b")
    light.receive(12)
    light.sync()
    light.slaves["b"] = slave
    light.start_master()
    light.sync()
    (loss,) = light.losses("b")
    assert (loss.reason, loss.start, loss.end) == (BELOW_FLOOR, cursor, read_floor(light.store))


def test_a_restored_disk_is_compared_from_the_floor_on(light: Rig) -> None:
    light.receive(12)
    light.sync()
    restored = MemoryStore()
    restored.open("crc32c")
    restored.append(list(light.disks["a"].records(0, MAX_INTEGER + 1)))
    light.add_slave("a", restored)
    before = light.read()
    assert light.sync()["a"].saved == 0
    assert light.read() == before
    assert BELOW_FLOOR in {loss.reason for loss in light.losses()}


def test_a_hand_over_brings_nothing_back(light: Rig) -> None:
    sent = light.receive(12)
    light.sync()
    removed = [r for r in light.disks["a"].records(0, MAX_INTEGER + 1) if r.payload in sent[:4]]
    report = light.master.accept("a", removed)
    assert (report.saved, report.represented) == (0, 4)
    assert light.master.accept("unknown", removed[:1]).saved == 1  # nothing may be lost


def test_a_loss_that_is_open_keeps_what_may_be_compared_again(light: Rig) -> None:
    sent = light.receive(6)
    light.sync()
    lease = light.store.acquire_lease("test", 0, 1)
    state = light.store.slave_states()["a"]
    start = light.clock.now() - 5 * HOUR
    loss = NotedLoss("1f", "file", "torn", start, start + HOUR, start, reported=False)
    light.store.save_slave(
        lease,
        "a",
        SlaveState(state.cursor, state.store, state.generation, losses=(loss,), stint=state.stint),
    )
    light.store.release_lease(lease)
    sent += light.receive(12)
    light.sync()
    assert sent[4] in light.read()
    light.master.losses.acknowledge("a", "1f")
    light.sync()
    assert sent[4] not in light.read()


@pytest.mark.parametrize(
    "env", [{"CONSUMER_EXPIRY_S": "7200"}, {"CONSUMER_QUOTA_BYTES": "1"}], ids=["expiry", "quota"]
)
def test_an_abandoned_consumer_does_not_fill_the_disk(env: dict[str, str]) -> None:
    rig = Rig(MemoryStore(), **env)
    rig.consumers.save("shop", "now")
    rig.receive(12)
    rig.sync()
    rig.clock.sleep(7200)
    rig.sync()
    left = rig.read()
    assert len(left) < 16
    document = rig.consumers.describe_one("shop")
    assert document.missed == read_floor(rig.store) - SPAN
    rig.consumers.save("shop", "now")
    assert rig.consumers.describe_one("shop").missed is not None  # until it is deleted
    rig.consumers.delete("shop")
    rig.consumers.save("shop", "now")
    assert rig.consumers.describe_one("shop").missed is None


def test_the_size_of_the_store_is_limited(rig: Rig) -> None:
    size = 400_000
    rig.env = {"RETENTION_BYTES": str(3 * size)}
    rig.start_master()
    for number in range(12):
        rig.slaves["a"].receiver.receive(b'{"n":%d,"x":"%s"}' % (number, b"x" * size), Meta())
        rig.clock.sleep(3600)
    rig.sync()
    total = rig.store.status().bytes
    assert total is not None
    assert size < total <= 3 * size
    assert rig.read()[-1].startswith(b'{"n":11,')


def test_a_master_without_limits_removes_nothing() -> None:
    rig = Rig(MemoryStore())
    rig.env = {}
    sent = rig.receive(30)
    rig.start_master()
    rig.env = {"RETENTION_S": ""}
    rig.start_master()
    rig.sync()
    rig.clock.sleep(10 * 365 * 86_400)
    rig.sync()
    assert rig.read() == sent


def test_every_kind_of_store_has_the_settings() -> None:
    for store in ("firestore:p/d", "sqlite:p", "memory:"):
        env = {"STORE": store, "SYNC_AUTH": "none", "RETENTION_S": "5", "RETENTION_BYTES": "6"}
        settings = Settings.from_env("master", env)
        assert (settings.retention_ms, settings.retention_bytes) == (5000, 6)
        assert settings.warnings == ()


def test_the_quota_counts_what_consumers_alone_keep() -> None:
    holds = [ConsumerHold("x", 3 * HOUR), ConsumerHold("y", 8 * HOUR), ConsumerHold("z", None)]
    complete = {"a": 20 * HOUR, ITSELF: 30 * HOUR}
    asked: list[int] = []

    def find_quota_cut(safe: int) -> int:
        asked.append(safe)
        return 5 * HOUR

    plan = plan_removal(10 * HOUR + 1, complete, holds, HOUR, find_quota_cut)
    assert (plan.cut, plan.missed, asked) == (5 * HOUR, ("x",), [10 * HOUR])
    assert [wait.name for wait in plan.waits] == ["y"]
    plan = plan_removal(10 * HOUR, complete, holds, HOUR, lambda safe: 0)
    assert (plan.cut, plan.missed) == (3 * HOUR, ())
    late = {"a": 2 * HOUR + 5, ITSELF: 30 * HOUR}
    plan = plan_removal(10 * HOUR, late, holds, HOUR, lambda safe: 9 * HOUR)
    assert (plan.cut, plan.missed) == (2 * HOUR, ())  # the quota is no reason to pass a slave
    assert [wait.name for wait in plan.waits] == ["a"]


def test_the_quarantine_is_emptied_after_a_time(rig: Rig) -> None:
    rig.env = {"QUARANTINE_S": "3600"}
    rig.start_master()
    lease = rig.store.acquire_lease("test", 0, 1)
    record = Record(Pair(5, 5), b"{}")
    ages = {"old": 3001, "older": 9999, "young": 2000}
    items = [
        Quarantined(n, "a", rig.clock.now() - s * 1000, "bad", record) for n, s in ages.items()
    ]
    rig.store.save_quarantine(lease, items)
    rig.store.release_lease(lease)
    rig.sync()  # 600 seconds later
    assert [item.id for item in rig.store.quarantine()] == ["young"]
    rig.env = {}
    rig.start_master()
    rig.clock.sleep(9999)
    rig.sync()
    assert [item.id for item in rig.store.quarantine()] == ["young"]
