"""How far a master has everything of a slave that has little, or nothing any more."""

from __future__ import annotations

from loadtests.simulation.network import Fault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Meta
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave
from portable_core.webhooks.feed import slave_complete_until

ENV = {"STORE": "memory:", "SYNC_AUTH": "none"}
SPAN_MS = 120_000


class Rig:
    """A master and one slave in memory."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.slave_store = MemoryStore()
        receiver = Receiver(Settings.from_env("slave", ENV), self.slave_store, self.clock)
        self.slave = Slave(receiver)
        store = MemoryStore()
        self.unreachable = False
        client = SimulatedClient(
            "s", lambda: self.slave, pick_fault=lambda: Fault(unreachable=self.unreachable)
        )
        self.master = Master(
            Receiver(Settings.from_env("master", ENV), store, self.clock), store, [client]
        )

    def sync(self) -> Milliseconds:
        """How far everything is in after a sync; some time passes before it."""
        self.clock.sleep(1)
        assert self.master.sync().ok
        return slave_complete_until(self.master.slave_states()["s"])


def test_the_first_webhook_of_a_slave_takes_nothing_back() -> None:
    rig = Rig()
    assert rig.sync() == rig.clock.now() - SPAN_MS
    first = rig.slave.receive(b"{}", Meta()).timestamp
    assert rig.sync() == rig.clock.now() - SPAN_MS  # it is too young to be asked for
    rig.clock.sleep(300)
    assert rig.sync() == rig.clock.now() - SPAN_MS > first


def test_a_slave_that_has_lost_all_its_records_is_not_behind() -> None:
    rig = Rig()
    rig.slave.receive(b"{}", Meta())
    rig.clock.sleep(300)
    rig.sync()
    rig.slave_store.prune(MAX_INTEGER)  # by age, by a policy of Firestore, by an accident
    rig.clock.sleep(3600)
    assert rig.sync() == rig.clock.now() - SPAN_MS


def test_an_empty_slave_that_is_gone_for_once_takes_nothing_back() -> None:
    rig = Rig()
    reached = rig.sync()
    rig.unreachable = True
    rig.clock.sleep(1)
    assert not rig.master.sync().ok
    assert slave_complete_until(rig.master.slave_states()["s"]) == reached
