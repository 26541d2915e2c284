"""A sync as events: the last report of each slave and the end, with or without a client."""

from __future__ import annotations

import gc
import json
import threading
import tracemalloc
from collections.abc import Callable

from portable_core.adapters.flask_app.sse import stream_sync
from portable_core.errors import LeaseHeld
from portable_core.sync.report import SlaveReport, SyncReport

Progress = Callable[[SlaveReport], None]


def read(event: bytes) -> tuple[str, dict[str, object]]:
    name, data = event.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_the_last_report_of_each_slave_and_the_end_are_sent() -> None:
    def sync(progress: Progress) -> SyncReport:
        for slave in ("a", "b"):
            for windows in range(1, 50):
                progress(SlaveReport(slave, windows=windows))
        return SyncReport(5, 0.5, [])

    events = list(map(read, stream_sync(sync)))
    assert [name for name, _ in events] == ["progress"] * (len(events) - 1) + ["report"]
    steps = {document["slave"]: document["windows"] for _, document in events[:-1]}
    assert steps == {"a": 49, "b": 49}
    assert events[-1][1] == SyncReport(5, 0.5, []).to_json()


def test_a_sync_that_cannot_be_run_ends_with_a_problem() -> None:
    def sync(progress: Progress) -> SyncReport:
        raise LeaseHeld("another sync is running")

    ((name, document),) = map(read, stream_sync(sync))
    assert name == "problem"
    assert document == {
        "type": "urn:webhook-sync:lease-held",
        "title": "Sync already running",
        "status": 409,
        "detail": "another sync is running",
    }


def test_no_events_pile_up_without_a_client() -> None:
    left, grown = threading.Event(), []

    def sync(progress: Progress) -> SyncReport:
        progress(SlaveReport("a"))
        left.wait(10)
        before = tracemalloc.get_traced_memory()[0]
        for windows in range(5000):
            progress(SlaveReport("a", windows=windows))
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0] - before)
        done.set()
        return SyncReport(5, 0.5, [])

    done = threading.Event()
    tracemalloc.start()
    try:
        events = stream_sync(sync)
        next(events)
        left.set()
        assert done.wait(30)
    finally:
        tracemalloc.stop()
    assert grown[0] < 100_000
