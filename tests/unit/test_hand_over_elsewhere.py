"""A stopping slave hands over to one process of a master while another one syncs."""

from __future__ import annotations

import pytest

from loadtests.simulation.network import NetworkFault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import LeaseHeld
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sync.hand_over import HAND_OVER_S
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave

ENV = {"STORE": "memory:", "SYNC_AUTH": "none"}


class SharedStore(MemoryStore):
    shared = True


def make_slave(clock: SimulatedClock, webhooks: int) -> Slave:
    slave = Slave(Receiver(Settings.from_env("slave", ENV), MemoryStore(), clock))
    for number in range(webhooks):
        slave.receiver.receive(b'{"%d":%d}' % (webhooks, number), Meta())
    return slave


def test_a_sync_gives_way_to_a_hand_over_in_another_process() -> None:
    clock = SimulatedClock()
    syncing, stopping = make_slave(clock, 500), make_slave(clock, 5)
    clock.sleep(600)
    store = SharedStore()

    def make_master() -> Master:
        client = SimulatedClient(
            "a", lambda: syncing, pause=move_on, pick_fault=lambda: NetworkFault(chunk=64)
        )
        receiver = Receiver(Settings.from_env("master", ENV), store, clock)
        return Master(receiver, store, [client])

    began = clock.monotonic()
    confirmed: list[float] = []
    refused = 0

    def move_on() -> None:
        """A second passes; the slave tries again, as long as its platform lets it."""
        nonlocal refused
        clock.sleep(1)
        if clock.monotonic() - began < HAND_OVER_S:
            hand_over()

    def hand_over() -> None:
        nonlocal refused
        if confirmed:
            return
        try:
            other.accept("b", stopping.hand_over())
        except LeaseHeld:
            refused += 1
        else:
            confirmed.append(clock.monotonic() - began)

    first, other = make_master(), make_master()
    (report,) = first.sync().slaves
    assert refused
    assert "a limit of this sync was reached" in report.warning
    hand_over()
    assert confirmed == [clock.monotonic() - began]
    assert confirmed[0] < HAND_OVER_S
    # Another sync is not held up by a hand-over that is over.
    assert sum(first.sync().slaves[0].saved for _ in range(9)) > 5


def test_a_sync_that_begins_later_does_not_give_way() -> None:
    clock = SimulatedClock()
    slave = make_slave(clock, 5)
    clock.sleep(600)
    store = SharedStore()
    client = SimulatedClient("a", lambda: slave, pause=lambda: clock.sleep(10))
    master = Master(Receiver(Settings.from_env("master", ENV), store, clock), store, [client])
    store.open("crc32c")
    held = store.acquire_lease("another", clock.now(), 1000)
    with pytest.raises(LeaseHeld):
        master.accept("b", slave.hand_over())
    store.release_lease(held)
    (report,) = master.sync().slaves
    assert (report.saved, report.warning, report.error) == (5, "", "")
