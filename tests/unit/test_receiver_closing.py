"""Closing a receiver that acknowledges before it commits, and its rate of commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import Stopping, StoreError
from portable_core.ingest.receiver import CLOSE_S, Receiver
from portable_core.records import Meta, Record
from portable_core.settings import Settings


class SlowStore(MemoryStore):
    """A real store whose disk hangs on demand, as long as a disk may."""

    hanging = False

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        if self.hanging:
            assert deadline is not None
            time.sleep(deadline)
            raise StoreError("the disk hangs")
        super().append(records, deadline)


def make(store: MemoryStore, **environment: str) -> Receiver:
    settings = Settings.from_env(
        "slave", {"STORE": "memory:", "SYNC_AUTH": "none", "ACK": "buffered", **environment}
    )
    return Receiver(settings, store, SystemClock())


def test_records_lost_at_the_end_are_reported_in_time() -> None:
    store = SlowStore()
    receiver = make(store)
    for n in range(3):
        receiver.receive(b'{"n":%d}' % n, Meta())
    store.hanging = True
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"^3 webhooks that were acknowledged are not stored"):
        receiver.drain()
    assert time.monotonic() - started < CLOSE_S + 1


def test_a_stop_flushes_without_waiting_for_the_interval() -> None:
    store = MemoryStore()
    receiver = make(store, FLUSH_INTERVAL_S="60")
    receiver.receive(b"{}", Meta())
    receiver.flush_soon()
    wait_until(lambda: store.status().records == 1)
    receiver.receive(b'{"n":2}', Meta())
    wait_until(lambda: store.status().records == 2)
    receiver.close()


def test_a_buffer_that_is_half_full_is_flushed_at_once() -> None:
    store = MemoryStore()
    receiver = make(store, FLUSH_INTERVAL_S="60", BUFFER_RECORDS="100")
    for n in range(50):
        receiver.receive(b'{"n":%d}' % n, Meta())
    wait_until(lambda: store.status().records == 50)
    receiver.close()


def test_a_node_that_was_closed_opens_no_store() -> None:
    receiver = make(MemoryStore(), ACK="committed")
    receiver.close()
    with pytest.raises(Stopping):
        receiver.receive(b"{}", Meta())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
