"""Syncs and hand-overs take turns: a sync continues after a hand-over, and is never starved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

import portable_core.sync.turns
from loadtests.simulation.disk import Disk
from loadtests.simulation.network import NetworkFault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import LeaseHeld, Unavailable
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Clock
from portable_core.records import MAX_INTEGER, Record
from portable_core.settings import Role, Settings
from portable_core.sync.hand_over import HAND_OVER_S
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave
from portable_core.sync.turns import ELSEWHERE_S, SLAVE_CREDIT_S, SLAVE_REFILL, Turns
from tests.support.nodes.sync_nodes import make_record, now_ms

ENV = {"STORE": "memory:", "SYNC_AUTH": "none", "SPAN_S": "10"}
RECORDS = 400


class Nodes:
    """A master in memory and a slave whose response takes a millisecond for every 256 bytes."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.begin = now_ms() - 600_000
        slave_store = MemoryStore()
        self.slave = Slave(self._make_receiver("slave", slave_store))
        self.slave.receiver.open()
        slave_store.append(self.make_records(0, RECORDS))
        self.store = Disk("00000000-0000-0000-0000-000000000001", shared=False, reach=10_000)
        self.pauses = 0
        self.look: Callable[[], None] = lambda: None
        client = SimulatedClient(
            "bravo",
            lambda: self.slave,
            pause=self._pause,
            pick_fault=lambda: NetworkFault(chunk=256),
        )
        self.master = Master(self._make_receiver("master", self.store), self.store, [client])

    def _make_receiver(self, role: Role, store: MemoryStore) -> Receiver:
        return Receiver(Settings.from_env(role, ENV), store, self.clock)

    def _pause(self) -> None:
        self.pauses += 1
        self.look()
        time.sleep(0.001)

    def make_records(self, first: int, count: int) -> list[Record]:
        return [make_record(first + n, self.begin + 10 * n) for n in range(count)]

    def count(self) -> int:
        return len(list(self.store.pairs(0, MAX_INTEGER)))


@contextmanager
def running(*targets: Callable[[], object]) -> Iterator[None]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_sync_continues_after_a_hand_over() -> None:
    nodes = Nodes()
    begun, confirmed = threading.Event(), threading.Event()
    at: list[int] = []

    def look() -> None:
        if nodes.pauses == 20:
            begun.set()
        if nodes.pauses > 20 and not confirmed.is_set():
            time.sleep(0.01)

    def hand_over() -> None:
        assert begun.wait(10)
        report = nodes.master.accept("alpha", iter(nodes.make_records(10**6, 5)))
        assert report.saved == 5
        at.append(nodes.count())
        confirmed.set()

    nodes.look = look
    with running(hand_over):
        (report,) = nodes.master.sync().slaves
    assert at[0] < RECORDS  # the sync was not done by then
    assert (report.saved, report.behind_ms, report.warning) == (RECORDS, 0, "")
    assert nodes.count() == RECORDS + 5


def test_a_cursor_that_was_set_back_meanwhile_is_not_advanced_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The master loses records while the sync has given way, and fetches them again."""
    nodes = Nodes()
    lost = []
    wanted = iter([False] * 30 + [True] * 3)
    monkeypatch.setattr(Turns, "wanted", property(lambda turns: next(wanted, False)))
    monkeypatch.setattr(
        Turns,
        "give_way",
        lambda turns: lost.extend(nodes.store.damage(nodes.begin, nodes.begin + 500)),
    )
    (report,) = nodes.master.sync().slaves
    assert lost
    assert report.saved == RECORDS + len(lost)
    assert nodes.count() == RECORDS


def test_syncs_complete_while_a_slave_hands_over_in_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portable_core.sync.turns, "SLAVE_CREDIT_S", 1.0)
    monkeypatch.setattr(portable_core.sync.turns, "_LEAST_CREDIT_S", 0.1)
    nodes = Nodes()
    records = nodes.make_records(10**6, 50)
    over = threading.Event()
    confirmed = refused = 0

    def loop() -> None:
        nonlocal confirmed, refused
        while not over.is_set():
            try:
                nodes.master.accept("bravo", iter(records))
                confirmed += 1
            except Unavailable:
                refused += 1
                time.sleep(0.01)

    with running(loop, loop, loop):
        time.sleep(0.2)
        begun = time.monotonic()
        reports = [nodes.master.sync().slaves[0] for _ in range(20)]
        seconds = time.monotonic() - begun
        over.set()
    assert sum(report.saved for report in reports) == RECORDS
    assert all(report.behind_ms == 0 for report in reports)
    assert confirmed > 1
    assert seconds < 20


def test_a_hand_over_of_another_slave_interrupts_all_the_same() -> None:
    turns = Turns(SimulatedClock(), ["alpha", "bravo"])
    while turns.interrupt_elsewhere("alpha"):
        pass
    assert turns.interrupt_elsewhere("bravo")


# -- credit ----------------------------------------------------------------------------------------


def count_interruptions(turns: Turns, slave: str) -> int:
    count = 0
    while turns.interrupt_elsewhere(slave):
        count += 1
    return count


def test_the_credit_of_a_slave_covers_a_stop_and_comes_back_slowly() -> None:
    clock = SimulatedClock()
    turns = Turns(clock, ["alpha"])
    assert SLAVE_CREDIT_S > HAND_OVER_S
    assert count_interruptions(turns, "alpha") == SLAVE_CREDIT_S / ELSEWHERE_S
    clock.sleep(ELSEWHERE_S / SLAVE_REFILL)
    assert count_interruptions(turns, "alpha") == 1
    clock.sleep(3600)
    assert count_interruptions(turns, "alpha") == SLAVE_CREDIT_S / ELSEWHERE_S


def test_names_that_are_not_in_slaves_share_one_credit() -> None:
    turns = Turns(SimulatedClock(), ["alpha"])
    total = sum(count_interruptions(turns, f"other-{number}") for number in range(50))
    assert total == SLAVE_CREDIT_S / ELSEWHERE_S
    assert count_interruptions(turns, "alpha")


def test_all_slaves_together_leave_half_of_the_time_to_syncs() -> None:
    clock = SimulatedClock()
    names = [f"slave-{number}" for number in range(30)]
    turns = Turns(clock, names)
    sum(count_interruptions(turns, name) for name in names)
    clock.sleep(100)
    total = sum(count_interruptions(turns, name) for name in names)
    assert ELSEWHERE_S * total <= 50


# -- turns -----------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


def test_a_second_sync_is_rejected_at_once(clock: Clock) -> None:
    turns = Turns(clock, [])
    with turns.sync(), pytest.raises(LeaseHeld, match="another sync"), turns.sync():
        pass
    with turns.sync():
        pass


def test_a_hand_over_waits_for_its_turn_for_a_limited_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable_core.sync.turns, "HAND_OVER_WAIT_S", 0.2)
    turns = Turns(clock, [])
    with turns.sync():
        with pytest.raises(Unavailable, match="a sync is still running"), turns.hand_over("a"):
            pass
        assert not turns.wanted
    with turns.hand_over("a"):
        pass


def test_a_sync_is_asked_to_give_way_while_a_hand_over_waits(clock: Clock) -> None:
    turns = Turns(clock, ["alpha"])
    held: list[str] = []

    def hand_over() -> None:
        with turns.hand_over("alpha"):
            held.append("hand-over")

    with turns.sync():
        with running(hand_over):
            deadline = time.monotonic() + 10
            while not turns.wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not held
            turns.give_way()
            held.append("sync")
        assert held == ["hand-over", "sync"]
        turns.give_way()  # without a hand-over it returns at once


def test_a_slave_hands_over_in_two_requests_at_most(clock: Clock) -> None:
    """So its requests never occupy all threads of the master's server."""
    turns = Turns(clock, ["alpha"])
    with ExitStack() as stack:
        for slave in ("alpha", "alpha", "one", "another"):
            stack.enter_context(turns.request(slave))
        for slave in ("alpha", "a third"):
            with pytest.raises(Unavailable, match="in 2 requests already"), turns.request(slave):
                pass
    with turns.request("alpha"):
        pass
