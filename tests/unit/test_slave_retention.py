"""What retention by bytes reports: only what no master has asked past."""

from __future__ import annotations

from contextlib import closing

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.receiver import Receiver
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.slave import Slave, SyncQuery


@pytest.mark.parametrize("asked", [0, 4, 9])
def test_a_gap_is_what_no_master_has_asked_past(
    caplog: pytest.LogCaptureFixture, asked: int
) -> None:
    clock = SimulatedClock()
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "RETENTION_BYTES": "1048576"}
    slave = Slave(Receiver(Settings.from_env("slave", env), MemoryStore(), clock))
    times = []
    for number in range(10):
        clock.sleep(1)
        payload = b'{"n":%d,"x":"%s"}' % (number, b"x" * 200_000)
        times.append(slave.receive(payload, Meta()).timestamp)
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
