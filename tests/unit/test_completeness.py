"""The time up to which a master is complete."""

from __future__ import annotations

from loadtests.simulation.network import NetworkFault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Milliseconds, SlaveState
from portable_core.records import MAX_INTEGER, Meta
from portable_core.settings import Settings
from portable_core.sync.completeness import complete_until, slave_complete_until
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave

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
            "s", lambda: self.slave, pick_fault=lambda: NetworkFault(unreachable=self.unreachable)
        )
        self.master = Master(
            Receiver(Settings.from_env("master", ENV), store, self.clock), store, [client]
        )

    def sync(self) -> Milliseconds:
        """Let a second pass, sync, and return the time up to which the slave is complete."""
        self.clock.sleep(1)
        assert self.master.sync().ok
        return slave_complete_until(self.master.slave_states()["s"])


def test_a_master_is_complete_where_every_node_is() -> None:
    def of(horizon: Milliseconds, *cursors: Milliseconds | None) -> Milliseconds:
        return complete_until(horizon, [SlaveState(cursor=cursor) for cursor in cursors])

    assert of(100) == 100
    assert of(100, 70, 90) == 70
    assert of(100, 130) == 100
    assert of(100, None, 90) == 0


def test_the_first_webhook_of_a_slave_does_not_lower_it() -> None:
    rig = Rig()
    assert rig.sync() == rig.clock.now() - SPAN_MS
    first = rig.slave.receiver.receive(b"{}", Meta()).timestamp
    assert rig.sync() == rig.clock.now() - SPAN_MS  # it is too young to be asked for
    rig.clock.sleep(300)
    assert rig.sync() == rig.clock.now() - SPAN_MS > first


def test_a_slave_without_records_any_more_is_complete() -> None:
    rig = Rig()
    rig.slave.receiver.receive(b"{}", Meta())
    rig.clock.sleep(300)
    rig.sync()
    rig.slave_store.prune(MAX_INTEGER)  # by age, by a policy of Firestore, by an accident
    rig.clock.sleep(3600)
    assert rig.sync() == rig.clock.now() - SPAN_MS


def test_an_empty_slave_that_is_unreachable_once_does_not_lower_it() -> None:
    rig = Rig()
    reached = rig.sync()
    rig.unreachable = True
    rig.clock.sleep(1)
    assert not rig.master.sync().ok
    assert slave_complete_until(rig.master.slave_states()["s"]) == reached
