"""How many syncs a slave answers at the same time, and what becomes of one that stalls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import BadRequest, StreamCut, TooManySyncs
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta, Pair
from portable_core.settings import Settings
from portable_core.sync.slave import STALLED_S, Slave, SyncQuery

MOST = 2


class Rig:
    def __init__(self) -> None:
        self.clock = SimulatedClock()
        env = {"STORE": "memory:", "SYNC_AUTH": "none", "MAX_SYNCS": str(MOST), "SPAN_S": "1"}
        settings = Settings.from_env("slave", env)
        self.slave = Slave(Receiver(settings, MemoryStore(), self.clock))
        self.begin = self.clock.now()
        for number in range(10):
            self.slave.receiver.receive(b'{"n":%d}' % number, Meta())
            self.clock.sleep(10)
        self.query = SyncQuery(self.begin, self.clock.now(), 1000, "crc32c")


def test_no_more_than_max_syncs() -> None:
    rig = Rig()
    answers = [rig.slave.answer(rig.query, []) for _ in range(MOST)]
    with pytest.raises(TooManySyncs, match="2 syncs are in progress"):
        rig.slave.answer(rig.query, [])
    answers[0].close()
    answers[0].close()  # frees one place, not two
    rig.slave.answer(rig.query, [])
    with pytest.raises(TooManySyncs):
        rig.slave.answer(rig.query, [])


def test_a_rejected_request_uses_no_slot() -> None:
    rig = Rig()
    for _ in range(MOST + 1):
        with pytest.raises(BadRequest):
            rig.slave.answer(SyncQuery(5, 5, 1000, "crc32c"), [])
    rig.slave.answer(rig.query, [])


def test_a_stalled_sync_loses_its_slot_when_another_needs_it() -> None:
    rig = Rig()
    still = rig.slave.answer(rig.query, [])
    assert len([next(still.records) for _ in range(2)]) == 2
    moving = rig.slave.answer(rig.query, [])
    rig.clock.sleep(STALLED_S / 2)
    next(moving.records)
    rig.clock.sleep(STALLED_S / 2)
    new = rig.slave.answer(rig.query, [])
    with pytest.raises(StreamCut, match="stalled"):
        next(still.records)
    still.close()
    assert len(list(moving.records)) == 9
    assert len(list(new.records)) == 10


def test_a_sync_that_waits_for_its_request_stalls_too() -> None:
    rig = Rig()

    def request() -> Iterator[Sequence[Pair]]:
        yield []
        others.extend(rig.slave.answer(rig.query, []) for _ in range(MOST - 1))
        rig.clock.sleep(STALLED_S)
        others.append(rig.slave.answer(rig.query, []))
        yield [Pair(rig.clock.now(), 1)]

    others: list[object] = []
    still = rig.slave.answer(rig.query, request())
    with pytest.raises(StreamCut, match="stalled"):
        list(still.records)
    assert len(others) == MOST


def test_a_stalled_sync_keeps_its_slot_while_no_other_needs_it() -> None:
    rig = Rig()
    still = rig.slave.answer(rig.query, [])
    next(still.records)
    rig.clock.sleep(10 * STALLED_S)
    assert len(list(still.records)) == 9
