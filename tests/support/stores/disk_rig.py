"""A master and a slave on disks, without a network, whose disks a test restores or damages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.sqlite import SqliteStore
from portable_core.epochs import NotedLoss
from portable_core.ingest.receiver import Receiver
from portable_core.records import MAX_INTEGER, Meta, Pair
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave
from tests.support.stores.samples import NOON

SPAN_S = 120


@dataclass
class DiskRig:
    """A master and a slave, each on a disk of its own, and what senders got 200 for."""

    path: Path
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(NOON))
    acknowledged: list[Pair] = field(default_factory=list)

    @property
    def disk(self) -> Path:
        return self.path / "slave"

    @contextmanager
    def slave(self, disk: Path | None = None) -> Iterator[Slave]:
        """Run a slave on a disk."""
        disk = disk or self.disk
        env = {"STORE": f"sqlite:{disk}", "SYNC_AUTH": "none"}
        receiver = Receiver(Settings.from_env("slave", env), SqliteStore(disk), self.clock)
        receiver.open()
        try:
            yield Slave(receiver)
        finally:
            receiver.close()

    def receive(self, slave: Slave, count: int = 3) -> list[Pair]:
        """Receive webhooks that no other node gets, a second apart."""
        pairs = []
        for _ in range(count):
            self.clock.sleep(1)
            number = len(self.acknowledged)
            pairs.append(slave.receiver.receive(b'{"number":%d}' % number, Meta()))
            self.acknowledged.append(pairs[-1])
        return pairs

    def run(self, count: int = 3, disk: Path | None = None) -> list[Pair]:
        """Run a slave for some webhooks."""
        with self.slave(disk) as slave:
            return self.receive(slave, count)

    @contextmanager
    def master(self, slave: Slave) -> Iterator[Master]:
        disk = self.path / "master"
        env = {"STORE": f"sqlite:{disk}", "SYNC_AUTH": "none"}
        store = SqliteStore(disk)
        receiver = Receiver(Settings.from_env("master", env), store, self.clock)
        try:
            yield Master(receiver, store, [SimulatedClient("s", lambda: slave)])
        finally:
            receiver.close()

    def sync(self, slave: Slave) -> SlaveReport:
        """Let the span pass, and sync."""
        self.clock.sleep(2 * SPAN_S)
        with self.master(slave) as master:
            (report,) = master.sync().slaves
        assert not report.error
        return report

    def run_and_sync(self, count: int = 3) -> SlaveReport:
        with self.slave() as slave:
            if count:
                self.receive(slave, count)
            return self.sync(slave)

    def find_unnamed(self) -> list[Pair]:
        """Return what was acknowledged, and is neither in the master nor in a loss."""
        with self.slave() as slave, self.master(slave) as master:
            losses = master.slave_states()["s"].losses
            there = set(master.receiver.store.pairs(0, MAX_INTEGER))
            return [p for p in self.acknowledged if p not in there and not names(losses, p)]

    def read_losses(self) -> tuple[NotedLoss, ...]:
        with self.slave() as slave, self.master(slave) as master:
            return master.slave_states()["s"].losses


def names(losses: tuple[NotedLoss, ...], pair: Pair) -> bool:
    """Return whether a loss covers the pair."""
    return any(
        (loss.start or 0) <= pair.timestamp and (loss.end is None or pair.timestamp < loss.end)
        for loss in losses
    )
