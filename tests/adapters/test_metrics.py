"""Metrics as a scraper sees them: read back with prometheus-client's own parser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from portable_core.adapters.flask_app import create_app
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.metrics import MAX_DAMAGED, Metrics
from portable_core.adapters.metrics.counters import _SECONDS
from portable_core.adapters.metrics.durations import Durations
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.epochs import Stint
from portable_core.errors import SlaveUnreachable, StoreError, Unauthorized
from portable_core.ingest.receiver import Receiver
from portable_core.ingest.refusals import MAX_SOURCES
from portable_core.node import Node
from portable_core.ports import (
    Damage,
    KeepWaiting,
    SlaveInfo,
    StoreStatus,
    SyncAnswer,
    SyncRequest,
    Tombstone,
    wait_on,
)
from portable_core.records import Meta, Record
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.webhooks.consumers import Consumers
from portable_core.wire.negotiation import ENCODINGS
from portable_core.wiring import build_app

BEARER = {"Authorization": "Bearer correct-horse"}
ENV = {
    "SYNC_TOKENS": "correct-horse",
    "STORE": "memory:",
    "BUFFER_RECORDS": "10",
    "SOURCES": "hub=github:secret, known=github:secret",
}
BODY = b'{"a":1}'


class SlowStore(MemoryStore):
    """Fails when told to; every commit takes 30 ms of the simulated clock."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self.clock = clock
        self.error: StoreError | None = None

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        self.clock.sleep(0.03)
        if self.error is not None:
            raise self.error
        super().append(records, deadline)


class LocalClient:
    """The port ``SlaveClient`` to a slave in the same process."""

    def __init__(self, name: str, slave: Slave) -> None:
        self.name = name
        self.slave = slave
        self.error: Exception | None = None

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        if self.error is not None:
            raise self.error
        return self.slave.describe(stint, clock)

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        raise AssertionError("no webhook was deleted")

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        encoding = ENCODINGS[request.media_type]
        reader = encoding.read_pairs()
        pairs = [reader.feed(chunk) for chunk in request.body]
        reader.finish()
        query = SyncQuery.of(request)
        answer = self.slave.answer(query, pairs)
        chunks = encoding.encode_records(answer.records)
        info = answer.store
        yield SyncAnswer(info.uuid, info.generation, answer.through, encoding.media_type, chunks)
        answer.close()


class Rig:
    """A node with its application, and its metrics as a mapping."""

    def __init__(self, role: str, clients: Sequence[LocalClient] = ()) -> None:
        settings = Settings.from_env("slave" if role == "slave" else "master", ENV)
        self.clock = SimulatedClock()
        self.store = SlowStore(self.clock)
        metrics = Metrics(settings)
        receiver = Receiver(settings, self.store, self.clock, observer=metrics)
        master = Master(receiver, self.store, clients, observer=metrics)
        self.receiver = receiver
        self.node = Node(
            settings,
            receiver,
            self._authenticate,
            lambda *_: Admit(),
            slave=Slave(receiver) if role == "slave" else None,
            master=master if role == "master" else None,
            consumers=Consumers(self.store, self.clock.now, receiver.open)
            if role == "master"
            else None,
            observer=metrics,
        )
        app = create_app(self.node, expose=partial(metrics.expose, self.node))
        self.client: FlaskClient = app.test_client()

    @staticmethod
    def _authenticate(header: str | None) -> None:
        if header != BEARER["Authorization"]:
            raise Unauthorized("no")

    def read(self) -> dict[str, float]:
        """``name{label="value"}`` -> value, of everything that is the node's own."""
        answer = self.client.get("/metrics", headers=BEARER)
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain; version=")
        return {
            sample.name.removeprefix("webhook_sync_")
            + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name.startswith("webhook_sync_")
        }


def test_the_guide_names_every_metric() -> None:
    # which a store in memory does not have
    told = {"webhook_sync_store_files", "webhook_sync_store_unchecked_files"}
    told.add("webhook_sync_disk_free_bytes")
    for role in ("slave", "master"):
        text = Rig(role).client.get("/metrics", headers=BEARER).text
        told |= {
            family.name + ("_total" if family.type == "counter" else "")
            for family in text_string_to_metric_families(text)
            if family.name.startswith("webhook_sync_")
        }
    guide = (Path(__file__).parents[2] / "containers" / "README.md").read_text()
    assert set(re.findall(r"`(webhook_sync_\w+)`", guide)) == told


def test_metrics_need_authentication_and_are_there_only_where_exposed() -> None:
    rig = Rig("slave")
    assert rig.client.get("/metrics").status_code == 401
    assert create_app(rig.node).test_client().get("/metrics", headers=BEARER).status_code == 404


def test_asking_for_the_metrics_is_what_opens_the_store_not_making_them() -> None:
    rig = Rig("slave")
    Metrics(rig.node.settings)
    with pytest.raises(StoreError):
        rig.store.info()


def test_webhooks_are_counted_by_source_and_outcome() -> None:
    rig = Rig("slave")
    for path in ("/webhook", "/webhook/github", "/webhook/github"):
        assert rig.client.post(path, data=BODY).status_code == 200
    assert rig.client.post("/webhook/github", data=b"[").status_code == 400
    rig.store.error = StoreError("no space left")
    assert rig.client.post("/webhook/github", data=BODY).status_code == 503
    metrics = rig.read()
    assert metrics["webhooks_total|kept|"] == 1
    assert metrics["webhooks_total|kept|github"] == 2
    assert metrics["webhooks_total|malformed-payload|github"] == 1
    assert metrics["webhooks_total|store-error|github"] == 1
    assert metrics["ack_seconds_count"] == 3


def test_a_sender_cannot_make_series_without_end() -> None:
    rig = Rig("slave")
    for number in range(MAX_SOURCES * 2 + 1):
        rig.client.post(f"/webhook/source-{number}", data=BODY)
    rig.client.post("/webhook/known", data=BODY)
    metrics = rig.read()
    assert len([name for name in metrics if name.startswith("webhooks_total")]) <= MAX_SOURCES + 2
    assert metrics["webhooks_total|kept|(other)"] > MAX_SOURCES
    assert metrics["webhooks_total|kept|known"] == 1, "a source of the settings keeps its place"


def test_commits_are_measured() -> None:
    rig = Rig("slave")
    rig.client.post("/webhook", data=BODY)
    rig.store.error = StoreError("no space left")
    rig.client.post("/webhook", data=BODY)
    metrics = rig.read()
    assert metrics["commit_seconds_count"] == 2
    assert metrics["commit_seconds_sum"] == pytest.approx(0.06)
    assert metrics["commit_records_count"] == metrics["commit_records_sum"] == 1
    assert metrics["commit_failures_total"] == 1


def test_the_buffers_fill_is_told_while_webhooks_wait() -> None:
    rig = Rig("slave")
    rig.client.post("/webhook", data=BODY)
    assert rig.read()["buffer_fill_ratio"] == 0
    buffer = rig.receiver.open()
    for _ in range(4):
        buffer.submit(1, BODY, Meta())
    metrics = rig.read()
    assert metrics["buffer_records"] == 4
    assert metrics["buffer_bytes"] == 4 * len(BODY)
    assert metrics["buffer_fill_ratio"] == pytest.approx(0.4)
    rig.clock.sleep(7)
    assert rig.read()["horizon_age_seconds"] == pytest.approx(7)


def test_the_stores_size_is_told() -> None:
    rig = Rig("slave")
    for number in range(3):
        rig.client.post("/webhook", data=b'{"a":%d}' % number)
    metrics = rig.read()
    assert metrics["store_up"] == 1
    assert metrics["store_records"] == 3
    assert metrics["store_damaged_parts"] == 0
    assert metrics["horizon_age_seconds"] == 0


def test_damaged_parts_are_counted_and_the_first_of_them_named() -> None:
    rig = Rig("slave")
    assert not [name for name in rig.read() if name.startswith("store_part_damaged")]
    parts = tuple(Damage(f"{number}.sqlite3", "overwritten") for number in range(MAX_DAMAGED + 1))
    rig.store.status = lambda: StoreStatus(0, None, None, damaged=parts)  # type: ignore[method-assign]  # a store with damage
    metrics = rig.read()
    assert metrics["store_damaged_parts"] == MAX_DAMAGED + 1
    assert metrics["store_part_damaged|0.sqlite3"] == 1
    named = [name for name in metrics if name.startswith("store_part_damaged")]
    assert len(named) == MAX_DAMAGED


def test_a_store_that_cannot_be_read_is_a_value_not_an_error() -> None:
    rig = Rig("slave")
    rig.store.status = fail  # type: ignore[method-assign]  # what a broken store does
    metrics = rig.read()
    assert metrics["store_up"] == 0
    assert "store_records" not in metrics


def test_a_store_that_accepts_nothing_is_down_but_read() -> None:
    rig = Rig("slave")
    rig.store.check = fail  # type: ignore[method-assign,assignment]  # what a full disk does
    metrics = rig.read()
    assert (metrics["store_up"], metrics["store_records"]) == (0, 0)


def fail() -> StoreStatus:
    raise StoreError("gone")


def test_syncs_are_counted_by_slave() -> None:
    there = Rig("slave")
    assert there.node.slave is not None
    client = LocalClient("alpha", there.node.slave)
    rig = Rig("master", [client])
    for number in range(5):
        there.client.post("/webhook", data=b'{"a":%d}' % number)
    for number in range(2):
        rig.client.post("/webhook", data=b'{"a":%d}' % number)
    for clock in (there.clock, rig.clock):
        clock.sleep((1_700_000_600_000 - clock.now()) / 1000)
    assert rig.read()["slave_ok|alpha"] == 0
    assert "cursor_age_seconds|alpha" not in rig.read()

    report = rig.client.post("/trigger-sync", headers=BEARER)
    assert report.status_code == 200, report.text
    rig.clock.sleep(60)
    metrics = rig.read()
    assert metrics["sync_runs_total|ok|alpha"] == 1
    assert metrics["sync_records_checked_total|alpha"] == 2
    assert metrics["sync_records_recovered_total|alpha"] == 3
    assert metrics["sync_records_refused_total|alpha"] == 0
    assert metrics["sync_bytes_total|received|alpha"] > 0
    assert metrics["sync_bytes_total|sent|alpha"] > 0
    assert metrics["sync_seconds_count|alpha"] == 1
    assert metrics["slave_ok|alpha"] == 1
    assert metrics["cursor_age_seconds|alpha"] == pytest.approx(180, abs=1)  # a span and a minute
    assert there.read()["syncs_answered_total"] == 1
    assert there.read()["records_sent_total"] == 3

    client.error = SlaveUnreachable("gone")
    assert rig.client.post("/trigger-sync", headers=BEARER).status_code == 502
    metrics = rig.read()
    assert metrics["sync_runs_total|failed|alpha"] == 1
    assert metrics["slave_ok|alpha"] == 0

    assert rig.node.master is not None
    rig.node.master.stop()
    assert rig.client.post("/trigger-sync", headers=BEARER).status_code == 200
    metrics = rig.read()
    assert metrics["sync_runs_total|not_begun|alpha"] == 1
    assert metrics["sync_runs_total|ok|alpha"] == 1
    assert metrics["slave_ok|alpha"] == 0


def test_scraping_while_webhooks_come_in() -> None:
    rig = Rig("slave")

    def work() -> list[int]:
        client = rig.client.application.test_client()
        return [client.post("/webhook/github", data=BODY).status_code for _ in range(50)]

    counts = []
    with ThreadPoolExecutor(4) as threads:
        senders = [threads.submit(work) for _ in range(4)]
        while not all(sender.done() for sender in senders):
            counts.append(rig.read().get("webhooks_total|kept|github", 0))
    assert {status for sender in senders for status in sender.result()} == {200}
    assert counts == sorted(counts)
    assert rig.read()["webhooks_total|kept|github"] == 200


@pytest.mark.parametrize("version", ["1.x", "x", "", "1.0.0.0", "9" * 5000, "\xb2"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_a_format_of_no_known_version_is_answered(kind: str, version: str) -> None:
    accept = {"Accept": f"{kind};version={version};escaping=x"}
    answer = Rig("slave").client.get("/metrics", headers={**BEARER, **accept})
    assert answer.status_code == 200
    assert "webhook_sync_store_up 1.0" in answer.text


def test_the_wired_application_has_them() -> None:
    app = build_app(Settings.from_env("slave", ENV))
    answer = app.test_client().get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert "webhook_sync_store_up 1.0" in answer.text
    assert "process_resident_memory_bytes" in answer.text


def test_times_counted_together_are_those_counted_one_by_one() -> None:
    values = [0.0, 0.001, 0.0011, 0.25, 9.9, 10, 60, 0.25]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    together = Durations("webhook_sync_test", "A test.", _SECONDS)
    ours.register(together)
    one_by_one = Histogram("webhook_sync_test", "A test.", buckets=_SECONDS, registry=theirs)
    together.observe(values[:3])
    together.observe(values[3:])
    for value in values:
        one_by_one.observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_webhooks_kept_together_are_counted() -> None:
    rig = Rig("slave")
    rig.node.observer.observe_kept("github", [0.002, 0.002, 0.2])
    metrics = rig.read()
    assert metrics["webhooks_total|kept|github"] == 3
    assert metrics["ack_seconds_count"] == 3
    assert metrics["ack_seconds_sum"] == pytest.approx(0.204)
