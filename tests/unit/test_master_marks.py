"""Retention waits for the slowest of several masters; each has a mark of its own."""

from __future__ import annotations

from contextlib import closing

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import NotFound, StoreError
from portable_core.ingest.receiver import Receiver
from portable_core.ports import StoreInfo
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.master_marks import ANONYMOUS, MasterMark, MasterMarks
from portable_core.sync.slave import Slave, SyncQuery

A = "0f8fad5b-d9cb-469f-a165-70867728950e"
B = "b9c1b4ff-7d20-45b0-9f8c-1d7e1f2b3c4d"
ENV = {"STORE": "memory:", "SYNC_AUTH": "none", "SPAN_S": "10", "RETENTION_S": "1"}


def make_info(generation: int = 1) -> StoreInfo:
    return StoreInfo("00000000-0000-0000-0000-000000000001", generation, "crc32c")


def make_marks() -> tuple[MasterMarks, MemoryStore]:
    store = MemoryStore()
    store.open("crc32c")
    return MasterMarks(store), store


class Nodes:
    """A slave, and two masters that sync it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.slave = Slave(Receiver(Settings.from_env("slave", ENV), MemoryStore(), self.clock))
        self.stores = [MemoryStore(A), MemoryStore(B)]
        client = SimulatedClient("slave", lambda: self.slave)
        self.masters = [
            Master(Receiver(Settings.from_env("master", ENV), store, self.clock), store, [client])
            for store in self.stores
        ]

    def receive(self, number: int) -> None:
        self.slave.receiver.receive(b'{"n":%d}' % number, Meta())

    def pass_time(self) -> None:
        self.clock.sleep(60)
        self.slave.retain(now=True)

    def count(self, master: int) -> int:
        return len(list(self.stores[master].pairs(0, MAX_INTEGER)))


def test_a_master_that_lags_loses_nothing() -> None:
    """With one mark for both, retention removed what only the first master had: one of four."""
    rig = Nodes()
    rig.receive(1)
    rig.pass_time()
    for master in rig.masters:
        assert master.sync().ok
    for number in (2, 3, 4):
        rig.receive(number)
        rig.pass_time()
        assert rig.masters[0].sync().ok
    rig.pass_time()
    assert rig.masters[1].sync().ok
    assert (rig.count(0), rig.count(1)) == (4, 4)
    rig.pass_time()
    for master in rig.masters:
        assert master.sync().ok  # its window starts after all records
    rig.pass_time()
    assert rig.slave.receiver.store.first() is None


def test_a_forgotten_master_is_not_waited_for() -> None:
    rig = Nodes()
    for number in (1, 2):
        rig.receive(number)
        rig.pass_time()
        for master in rig.masters[number - 1 :]:
            master.sync()
    rig.receive(3)
    rig.pass_time()
    for _ in range(2):
        rig.masters[1].sync()
        rig.pass_time()
    assert rig.slave.receiver.store.first() is not None
    assert [mark.master for mark in rig.slave.describe_masters()] == [A, B]
    rig.slave.forget_master(A)
    rig.slave.retain(now=True)
    assert rig.slave.receiver.store.first() is None
    with pytest.raises(NotFound, match="no master"):
        rig.slave.forget_master(A)
    rig.receive(4)
    rig.pass_time()
    rig.masters[0].sync()
    assert {mark.master for mark in rig.slave.describe_masters()} == {A, B}


def test_a_master_that_asks_for_an_earlier_window_is_waited_for_again() -> None:
    """A master that was restored from a backup; without a name, too."""
    marks, _ = make_marks()
    for master in (A, ""):
        marks.note(make_info(), master, 900)
        marks.note(make_info(), master, 300)
        assert marks.find_slowest(make_info()) == 300


def test_the_mark_without_a_name_belongs_to_the_first_master_that_names_itself() -> None:
    marks, store = make_marks()
    store.raise_mark("asked-1", 500)
    store.raise_mark("asked-2", 700)
    info = make_info(generation=2)
    assert marks.find_all(info) == {"": 700}
    marks.note(info, A, 800)
    assert marks.find_all(info) == {A: 800}
    assert store.marks("asked-") == {f"asked-2-{A}": 800}
    marks.note(info, B, 400)
    assert marks.find_all(info) == {A: 800, B: 400}


def test_masters_of_older_releases_share_one_mark() -> None:
    """One that goes on beside masters with names is waited for like any other."""
    marks, _ = make_marks()
    marks.note(make_info(), A, 800)
    marks.note(make_info(), "", 300)
    MasterMarks(marks._store).note(make_info(), B, 500)
    assert marks.find_all(make_info()) == {A: 800, B: 500, "": 300}
    assert marks.find_slowest(make_info()) == 300
    assert marks.describe(make_info(), 500)[0] == MasterMark(ANONYMOUS, 300, late=False)
    assert marks.forget(ANONYMOUS)
    assert marks.find_slowest(make_info()) == 500


def test_a_master_that_has_not_asked_in_this_generation_has_nothing() -> None:
    marks, store = make_marks()
    marks.note(make_info(1), A, 800)
    marks.note(make_info(1), B, 800)
    marks.note(make_info(2), A, 900)
    assert marks.find_all(make_info(2)) == {A: 900, B: 0}
    assert marks.find_slowest(make_info(2)) == 0
    # The mark of an older generation is removed once the master has one in this generation.
    assert f"asked-1-{A}" not in store.marks("asked-")
    marks.note(make_info(2), B, 700)
    assert marks.find_slowest(make_info(2)) == 700


def test_a_master_is_late_while_a_record_waits_for_it() -> None:
    marks, store = make_marks()
    for time in (100, 400):
        store.append([Record(Pair(time, 1), b"{}")])
    for master, asked in ((A, 100), (B, 101)):
        marks.note(make_info(), master, asked)
    late = {
        before: {mark.master for mark in marks.describe(make_info(), before) if mark.late}
        for before in (100, 101, 400, 401)
    }
    assert late == {100: set(), 101: {A}, 400: {A}, 401: {A, B}}
    store.prune(1000)
    assert not any(mark.late for mark in marks.describe(make_info(), 1000))


def test_other_marks_are_left_alone() -> None:
    marks, store = make_marks()
    for name in ("asked-", "asked-x", "asked-1-alpha", "horizon"):
        store.raise_mark(name, 5)
    marks.note(make_info(), A, 800)
    assert marks.find_all(make_info()) == {A: 800}
    assert not marks.forget("alpha")
    assert len(store.marks("")) == 5


class FullStore(MemoryStore):
    """Saves no mark while it is full."""

    full = False

    def set_mark(self, name: str, value: int) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().set_mark(name, value)


def test_a_smaller_mark_counts_although_it_is_not_saved() -> None:
    store = FullStore()
    store.open("crc32c")
    marks = MasterMarks(store)
    marks.note(make_info(), A, 800)
    store.full = True
    marks.note(make_info(), A, 900)
    assert marks.find_slowest(make_info()) == 800
    marks.note(make_info(), A, 300)
    assert marks.find_slowest(make_info()) == 300
    store.full = False
    marks.note(make_info(), A, 1000)
    assert marks.find_slowest(make_info()) == 1000


def test_a_comparison_does_not_count() -> None:
    rig = Nodes()
    rig.receive(1)
    rig.clock.sleep(60)
    now = rig.clock.now()
    query = SyncQuery(now - 1, now, 10_000, "crc32c", compare_only=True, master=A)
    with closing(rig.slave.answer(query, [])):
        pass
    assert rig.slave.describe_masters() == []


def test_a_request_of_a_person_from_the_beginning_does_not_count() -> None:
    """As in the documentation, with curl; retention would wait for it for ever."""
    rig = Nodes()
    rig.receive(1)
    rig.clock.sleep(60)
    with closing(rig.slave.answer(SyncQuery(0, rig.clock.now(), 10_000, "crc32c"), [])):
        pass
    assert rig.slave.describe_masters() == []


def test_a_hand_over_begins_at_the_slowest_master_that_is_not_late() -> None:
    """A master that is gone must not use up the seconds of a hand-over."""
    rig = Nodes()
    day = 86_400_000
    now = rig.clock.now()
    info = rig.slave.receiver.info()
    for master, asked in ((A, now - 2 * day), (B, now - 60_000), ("", now - 50_000)):
        rig.slave.masters.note(info, master, asked)
    assert rig.slave._find_hand_over_start(None) == now - 60_000
    rig.clock.sleep(2 * 86_400)
    assert rig.slave._find_hand_over_start(None) == now - 2 * day
