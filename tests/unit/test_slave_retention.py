"""Retention removes only records before a master's window; by bytes more, which it reports."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import Conflict
from portable_core.ingest.receiver import Receiver
from portable_core.ports import StoreEpoch
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sync.slave import Slave, SyncQuery


@pytest.mark.parametrize("asked", [0, 4, 9])
def test_a_gap_holds_the_records_after_the_last_start(
    caplog: pytest.LogCaptureFixture, asked: int
) -> None:
    clock = SimulatedClock()
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "RETENTION_BYTES": "1048576"}
    slave = Slave(Receiver(Settings.from_env("slave", env), MemoryStore(), clock))
    times = []
    for number in range(10):
        clock.sleep(1)
        payload = b'{"n":%d,"x":"%s"}' % (number, b"x" * 200_000)
        times.append(slave.receiver.receive(payload, Meta()).timestamp)
    clock.sleep(1)
    span = slave.describe().span
    with closing(slave.answer(SyncQuery(times[asked], clock.now(), span, "crc32c"), [])):
        pass
    slave.retain(now=True)
    store = slave.receiver.store
    assert store.first() == times[5]
    gaps = ((times[asked], times[4] + 1),) if asked < 5 else ()
    assert store.status().gaps == gaps
    assert ("RETENTION_BYTES" in caplog.text) == bool(gaps)


def test_a_window_of_another_epoch_allows_no_removal() -> None:
    clock = SimulatedClock()
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "RETENTION_S": "1"}
    slave = Slave(Receiver(Settings.from_env("slave", env), MemoryStore(), clock))
    slave.receiver.receive(b"{}", Meta())
    clock.sleep(10)
    info = slave.describe()
    query = SyncQuery(clock.now(), clock.now() + 1, info.span, info.hash)
    for other in (StoreEpoch(info.store, info.generation + 1), StoreEpoch("another", 1)):
        with pytest.raises(Conflict, match="begin with GET /sync again"):
            slave.answer(replace(query, epoch=other), [])
    slave.retain(now=True)
    assert slave.receiver.store.first() is not None
    same = StoreEpoch(info.store, info.generation)
    with closing(slave.answer(replace(query, epoch=same), [])):
        pass
    slave.retain(now=True)
    assert slave.receiver.store.first() is None
