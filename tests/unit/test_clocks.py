"""When a master and a slave disagree about the time: which clock or store is named."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import Unavailable
from portable_core.ingest.receiver import Receiver
from portable_core.records import MAX_INTEGER, Meta
from portable_core.settings import Settings
from portable_core.sync.clocks import NodeTime, PeerClocks, diagnose, meet
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave

SPAN = 120_000
T = 1_700_000_000_000
HOUR = 3_600_000
YEAR = 365 * 24 * HOUR


class Case(NamedTuple):
    """``master`` and ``slave``: how wrong clock and timestamps are; None for an older release."""

    master: tuple[int | None, int]
    slave: tuple[int | None, int]
    others: tuple[int, ...]
    part: str | None
    stops: bool = True
    fails: bool = True
    words: str = ""


CASES = {
    "all agree": Case((0, 0), (0, 0), (), None),
    "a quarter of the span": Case((0, 0), (30_000, 30_000), (), None),
    "more than a quarter": Case((0, 0), (30_001, 30_001), (), "a clock", stops=False, fails=False),
    "half the span": Case((0, 0), (60_000, 60_000), (), "a clock", stops=False, fails=False),
    "one slave, ahead": Case((0, 0), (HOUR, HOUR), (), "a clock", words="3600.0 s ahead of"),
    "one slave, behind": Case((0, 0), (-HOUR, -HOUR), (), "a clock", words="no other slave shows"),
    "slave's clock": Case((0, 0), (HOUR, HOUR), (0, 10, -10), "slave's clock", words="of 3 other"),
    "slave's clock behind": Case((0, 0), (-HOUR, -HOUR), (0,), "slave's clock", words="s behind"),
    "master's clock": Case((HOUR, HOUR), (0, 0), (0,), "master's clock", words="3600.0 s ahead"),
    "master's clock behind": Case((-HOUR, -HOUR), (0, 0), (0, 5), "master's clock"),
    "a tie": Case((0, 0), (HOUR, HOUR), (0, HOUR), "a clock"),
    "others that are off too": Case((0, 0), (HOUR, HOUR), (YEAR, -YEAR), "a clock"),
    "slave's store": Case(
        (0, 0), (0, YEAR), (), "slave's store", stops=False, words="31536000.0 s ahead of its clock"
    ),
    "slave's store, a little": Case((0, 0), (0, 40_000), (), "slave's store", False, False),
    "master's store": Case((0, YEAR), (0, 0), (), "master's store", words="Stop the master"),
    "both stores": Case((0, YEAR), (0, HOUR), (), "both stores", words="repair"),
    "both stores equally": Case((0, YEAR), (0, YEAR), (), None),
    "a slave that does not use its clock": Case((0, 0), (YEAR, 0), (), "a clock", False, False),
    "one that does not use a clock of both": Case((YEAR, YEAR), (YEAR, 0), (), "a clock"),
    "an older slave": Case((0, 0), (None, HOUR), (0,), "a clock", words="Compare both clocks"),
    "an older slave that agrees": Case((0, 0), (None, 0), (), None),
}


def make_time(errors: tuple[int | None, int]) -> NodeTime:
    clock, timestamp = errors
    return NodeTime(None if clock is None else T + clock, T + timestamp)


@pytest.mark.parametrize("name", CASES)
def test_what_is_off(name: str) -> None:
    case = CASES[name]
    others = [T + other for other in case.others]
    found = diagnose(make_time(case.master), make_time(case.slave), others, SPAN)
    if case.part is None:
        assert found is None
        return
    assert found is not None
    assert (found.part, found.stops, found.fails) == (case.part, case.stops, case.fails)
    assert case.words in found.text
    assert ("webhook-sync repair" in found.text) == ("store" in found.part)


def test_the_slave_read_its_clock_between_two_readings_of_the_master_s() -> None:
    before, after = NodeTime(T, T), NodeTime(T + 50_000, T + 50_000)
    for clock, expected in ((T - 9, T), (T + 7, T + 7), (T + 60_000, T + 50_000)):
        assert meet(before, after, NodeTime(clock, clock)) == NodeTime(expected, expected)


def test_clocks_of_peers_advance_and_become_old() -> None:
    peers = PeerClocks()
    peers.note("a", T, 10.0)
    peers.note("b", T + 5, 11.0)
    assert peers.estimate(12.0, without="b") == [T + 2_000]
    assert peers.estimate(12.0, without="") == [T + 2_000, T + 1_005]
    assert peers.estimate(10.0 + 3601, without="") == [T + 5 + 3_600_000]


# -- in syncs --------------------------------------------------------------------------------------


def _return(slave: Slave) -> Slave:
    return slave


class Nodes:
    """A master and three slaves, each with a clock of its own."""

    def __init__(self) -> None:
        self.clocks = {name: SimulatedClock(T) for name in ("master", "a", "b", "c")}
        self.slaves: dict[str, Slave] = {}
        for name in ("a", "b", "c"):
            settings = Settings.from_env("slave", {"STORE": "memory:", "SYNC_AUTH": "none"})
            receiver = Receiver(settings, MemoryStore(), self.clocks[name])
            receiver.open()
            self.slaves[name] = Slave(receiver)
        settings = Settings.from_env("master", {"STORE": "memory:", "SYNC_AUTH": "none"})
        self.store = MemoryStore()
        self.receiver = Receiver(settings, self.store, self.clocks["master"])
        self.receiver.open()
        clients = [
            SimulatedClient(name, partial(_return, slave)) for name, slave in self.slaves.items()
        ]
        self.master = Master(self.receiver, self.store, clients)
        self.receive()
        self.advance(10_000)

    def advance(self, milliseconds: int) -> None:
        for clock in self.clocks.values():
            clock.sleep(milliseconds / 1000)

    def jump(self, name: str, milliseconds: int) -> None:
        self.clocks[name].set(self.clocks[name].now() + milliseconds)

    def receive(self) -> None:
        for number, slave in enumerate(self.slaves.values()):
            slave.receiver.receive(b'{"n":%d}' % (number + self.clocks["a"].now()), Meta())

    def sync(self) -> dict[str, SlaveReport]:
        return {report.slave: report for report in self.master.sync().slaves}


def test_a_jump_at_a_slave_is_not_used_and_blamed_on_it() -> None:
    nodes = Nodes()
    nodes.sync()
    nodes.jump("b", YEAR)
    reports = nodes.sync()
    assert all(report.ok for report in reports.values())
    assert "Correct the slave's" in reports["b"].warning
    nodes.jump("b", -YEAR)
    assert not any(report.warning for report in nodes.sync().values())


def test_a_jump_at_the_master_is_not_used_and_blamed_on_it() -> None:
    nodes = Nodes()
    nodes.sync()
    nodes.jump("master", YEAR)
    reports = nodes.sync()
    assert all(report.ok for report in reports.values())
    assert all("Correct the master's" in report.warning for report in reports.values())
    nodes.jump("master", -YEAR)
    assert not any(report.warning for report in nodes.sync().values())
    assert nodes.receiver.now() == nodes.clocks["master"].now()


def test_a_jump_that_lasts_stops_the_sync_of_that_slave_alone() -> None:
    nodes = Nodes()
    nodes.jump("b", HOUR)
    for _ in range(8):
        nodes.advance(SPAN // 4)
        reports = nodes.sync()
    assert reports["b"].error_type == "ClocksDiffer"
    assert "Correct the slave's" in reports["b"].error
    assert reports["a"].ok
    assert reports["c"].ok


def test_a_jump_of_all_clocks_is_used_at_once() -> None:
    """Machines that were suspended together, with a clock that does not count that."""
    nodes = Nodes()
    nodes.sync()
    for name in nodes.clocks:
        nodes.jump(name, HOUR)
    for _ in range(2):
        reports = nodes.sync()
    assert all(report.ok for report in reports.values())
    for node in (nodes.receiver, *(slave.receiver for slave in nodes.slaves.values())):
        assert node.now() == nodes.clocks["master"].now()
        assert node.clock_warnings() == []


def test_a_slave_whose_store_is_ahead_is_synced_and_reported() -> None:
    """It started under a clock that was a year ahead, which was corrected since."""
    nodes = Nodes()
    slave = nodes.slaves["b"].receiver
    slave.receive(b'{"before":1}', Meta())
    slave.open().raise_floor(nodes.clocks["b"].now() + YEAR)
    slave.receive(b'{"after":1}', Meta())
    nodes.advance(3 * SPAN)
    report = nodes.sync()["b"]
    assert report.error_type == "ClocksDiffer"
    assert "Stop this slave, run webhook-sync repair" in report.error
    payloads = {record.payload for record in nodes.store.records(0, MAX_INTEGER)}
    assert b'{"before":1}' in payloads  # what has right timestamps waits for no repair
    assert b'{"after":1}' not in payloads


def test_a_master_whose_store_is_ahead_blames_no_slave() -> None:
    nodes = Nodes()
    nodes.receiver.open().raise_floor(nodes.clocks["master"].now() + YEAR)
    for report in nodes.sync().values():
        assert report.error_type == "ClocksDiffer"
        assert "Stop the master, run webhook-sync repair" in report.error


def test_a_writer_of_a_shared_store_whose_clock_jumps_accepts_nothing() -> None:
    """Another instance whose clock is right may have reported a later horizon."""

    class SharedStore(MemoryStore):
        shared = True

    clock = SimulatedClock(T)
    settings = Settings.from_env("slave", {"STORE": "memory:", "SYNC_AUTH": "none"})
    receiver = Receiver(settings, SharedStore(), clock)
    slave = Slave(receiver)
    receiver.receive(b"{}", Meta())
    clock.set(T + HOUR)
    slave.describe(clock=T + HOUR)  # no peer can confirm it
    with pytest.raises(Unavailable, match="clock has jumped"):
        receiver.receive(b"{}", Meta())
    clock.set(T)
    receiver.receive(b"{}", Meta())
