"""A slave whose disk is full: a master can still take what it has, and makes room by that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import StoreError
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta, Pair
from portable_core.settings import Settings
from portable_core.sync.slave import Slave, SyncQuery
from tests.support.stores.samples import HOUR, NOON
from tests.support.stores.small_disks import mount_small_disk


@dataclass
class Rig:
    disk: Path
    clock: SimulatedClock
    slave: Slave

    def receive(self, number: int) -> Pair:
        noise = random.Random(number).randbytes(20_000).hex()
        self.clock.sleep(0.001)
        payload = b'{"n":%d,"noise":"%s"}' % (number, noise.encode())
        return self.slave.receiver.receive(payload, Meta())

    def sync(self, start: int) -> tuple[list[Pair], int]:
        """What a master gets that has nothing, and through when."""
        info = self.slave.describe()
        query = SyncQuery(start, info.horizon + 1, info.span, info.hash)
        with closing(self.slave.answer(query, [])) as answer:
            return [record.pair for record in answer.records], answer.through


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with mount_small_disk(tmp_path / "disk") as disk:
        env = {"STORE": f"sqlite:{disk}/store", "SYNC_AUTH": "none", "RETENTION_S": "3600"}
        clock = SimulatedClock(NOON)
        receiver = Receiver(Settings.from_env("slave", env), SqliteStore(disk / "store"), clock)
        with closing(receiver):
            yield Rig(disk, clock, Slave(receiver))


def receive_until_full(rig: Rig) -> list[Pair]:
    taken: list[Pair] = []
    with pytest.raises(StoreError, match="disk is full"):  # noqa: PT012 -- until it raises
        for number in range(1000):
            taken.append(rig.receive(number))
    return taken


def test_a_disk_filled_by_the_slave_itself_becomes_empty_by_syncs(rig: Rig) -> None:
    taken = receive_until_full(rig)
    assert len(taken) > 50
    for _ in range(20):  # the state has room, however often it is asked
        got, through = rig.sync(0)
        assert got == taken
        rig.slave.receiver.status()
    rig.clock.sleep(3 * HOUR / 1000)
    with pytest.raises(StoreError, match="disk is full"):
        rig.receive(2000)
    for _ in range(2):
        got, through = rig.sync(through)
        assert got == []  # and the slave knows now that the master has everything
    rig.slave.retain(now=True)
    assert rig.slave.receiver.store.first() is None
    rig.receive(2001)


def test_a_disk_filled_to_the_last_byte_by_somebody_else(rig: Rig) -> None:
    taken = [rig.receive(number) for number in range(5)]
    rig.clock.sleep(0.001)
    assert rig.sync(0)[0] == taken
    taken += [rig.receive(number) for number in range(5, 9)]
    through = taken[-1].timestamp + 1
    with (rig.disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1000))
    store = rig.slave.receiver.store
    with suppress(StoreError):
        for value in range(2000):  # until the state's own log is full
            store.raise_mark("anything", value + 1)
    with pytest.raises(StoreError):
        store.raise_mark("anything", 10_000)
    for _ in range(2):
        rig.clock.sleep(1)
        assert rig.slave.receiver.status().horizon > through
        assert rig.sync(0) == (taken, through)
    (rig.disk / "ballast").unlink()
    rig.receive(9)
    assert rig.sync(0)[1] > through
