"""Metrics of one node in Prometheus' text format (prometheus-client), on a registry of their own.

Events are counted as they happen; states (buffer, store, horizon, cursors) are read for each
scrape. Each process counts its own: of several instances, each answers ``/metrics`` for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from portable_core.errors import WebhookSyncError
from portable_core.ingest.receiver import NodeStatus, find_fill
from portable_core.ingest.refusals import SourceNames
from portable_core.node import Node
from portable_core.settings import Settings
from portable_core.sync.completeness import slave_complete_until
from portable_core.sync.conditions import Condition
from portable_core.sync.master import Master
from portable_core.sync.observer import Observer
from portable_core.sync.report import SlaveReport, SyncReport, read_report
from portable_core.sync.resuming import find_open_losses
from portable_core.webhooks.consumers import Consumers

#: Most damaged parts of the store that are named; ``store_damaged_parts`` counts all.
MAX_DAMAGED = 64

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SYNC_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 240)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class Metrics(Observer):
    """The metrics of one node. Safe to use from any number of threads."""

    def __init__(self, settings: Settings) -> None:
        # They would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of prometheus-client
        self._registry = registry = CollectorRegistry(auto_describe=False)
        # Configured sources have series of their own, whatever senders send.
        self._sources = SourceNames(settings.sources.names)
        #: Series found once: to find one by its labels costs more than to count.
        self._counts: dict[tuple[str, str], Counter] = {}
        ProcessCollector(registry=registry)
        self._webhooks = Counter(
            "webhook_sync_webhooks",
            "Webhooks by source and outcome: kept, or the type of the problem in the response.",
            ["source", "outcome"],
            registry=registry,
        )
        self._ack_seconds = Histogram(
            "webhook_sync_ack_seconds",
            "Time from a webhook's request to its acknowledgement, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._commit_seconds = Histogram(
            "webhook_sync_commit_seconds",
            "Duration of a commit to the store, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._commit_records = Histogram(
            "webhook_sync_commit_records",
            "Webhooks in one commit.",
            buckets=_RECORDS,
            registry=registry,
        )
        self._commit_failures = Counter(
            "webhook_sync_commit_failures", "Commits that failed.", registry=registry
        )
        self._syncs = _SyncMetrics(registry) if settings.role == "master" else None

    def observe_webhook(self, source: str, outcome: str, seconds: float) -> None:
        """Count a webhook, and its time where it was kept."""
        count = self._counts.get((source, outcome))
        if count is None:
            bound = self._sources.bound(source)
            count = self._webhooks.labels(bound, outcome)
            if bound == source:  # of these there are few; outcomes are the types of problems
                self._counts[source, outcome] = count
        count.inc()
        if outcome == "kept":
            self._ack_seconds.observe(seconds)

    def observe_commit(self, records: int, seconds: float, done: bool) -> None:
        """Count a commit."""
        self._commit_seconds.observe(seconds)
        if done:
            self._commit_records.observe(records)
        else:
            self._commit_failures.inc()

    def observe_sync(self, report: SyncReport) -> None:
        if self._syncs is not None:
            self._syncs.observe(report)

    def expose(self, node: Node, accept: str) -> tuple[bytes, str]:
        """Return the metrics of ``node`` in the format that ``accept`` names, and its media type.

        An ``accept`` that is not understood gets the plain text format.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._registry)
        registry.register(_NodeCollector(node))
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version like 1.x
            encode, content_type = choose_encoder("")
        return encode(registry), content_type


class _SyncMetrics:
    """Metrics of a master's syncs, by slave."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"webhook_sync_{name}", meaning, ["slave", *labels], registry=registry)

        self._runs = count(
            "sync_runs", "Syncs of a slave by outcome: ok, failed, not_begun.", "outcome"
        )
        self._checked = count(
            "sync_records_checked", "Pairs of the master that a slave compared with its own."
        )
        self._recovered = count(
            "sync_records_recovered", "Records recovered: the master lacked them."
        )
        self._needless = count(
            "sync_records_represented",
            "Records received that were represented in the master already.",
        )
        self._repeats = count(
            "sync_records_repeated", "Records recovered whose key was in the master already."
        )
        self._similar = count(
            "sync_similar",
            "Syncs in which records of a source differed from the master's only in a few members: "
            "the source needs an identity rule.",
            "source",
        )
        self._refused = count("sync_records_refused", "Records put into quarantine.")
        self._cut = count("sync_cuts", "Responses of a slave that ended early.")
        self._bytes = count(
            "sync_bytes", "Bytes exchanged with a slave, by direction: sent, received.", "direction"
        )
        self._seconds = Histogram(
            "webhook_sync_sync_seconds",
            "Duration of the sync of a slave, in seconds.",
            ["slave"],
            buckets=_SYNC_SECONDS,
            registry=registry,
        )

    def observe(self, report: SyncReport) -> None:
        for slave in report.slaves:
            self._observe_slave(slave)

    def _observe_slave(self, report: SlaveReport) -> None:
        name = report.slave
        if not report.started:
            self._runs.labels(name, "not_begun").inc()
            return
        self._runs.labels(name, "ok" if report.ok else "failed").inc()
        self._checked.labels(name).inc(report.pairs_sent)
        self._recovered.labels(name).inc(report.saved)
        self._needless.labels(name).inc(report.represented)
        self._repeats.labels(name).inc(report.repeats)
        for source in report.similar:
            self._similar.labels(name, source).inc()
        self._refused.labels(name).inc(report.set_aside)
        self._cut.labels(name).inc(report.cut)
        self._bytes.labels(name, "sent").inc(report.bytes_sent)
        self._bytes.labels(name, "received").inc(report.bytes_received)
        self._seconds.labels(name).observe(report.seconds)


class _NodeCollector(Collector):
    """Reads the node's state for each scrape."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        node = self._node
        conditions = node.find_conditions()
        up = not any(condition.name == "store-down" for condition in conditions)
        yield _describe_conditions(conditions)
        metrics: list[Metric] = []
        try:
            metrics += _describe_status(node.receiver.status(), node)
            if node.master is not None:
                metrics += _describe_slaves(node.master, node.receiver.now())
            if node.consumers is not None:
                metrics.append(_describe_consumers(node.consumers))
        except WebhookSyncError:
            up, metrics = False, []
        yield _gauge(
            "store_up", "1 if the store can be read and accepts webhooks, else 0.", float(up)
        )
        yield from metrics
        if not metrics:
            return
        if node.slave is not None:
            counters = node.slave.counters
            yield _counter("syncs_answered", "Syncs answered by this slave.", counters.syncs)
            yield _counter("records_sent", "Records sent to masters.", counters.records_sent)
            yield _counter(
                "records_gone",
                "Records that a sync missed because they had been removed.",
                counters.gone,
            )


def _describe_conditions(conditions: Iterable[Condition]) -> Metric:
    metric = GaugeMetricFamily(
        "webhook_sync_condition",
        "1 for each condition of the node; subject is the slave or master that it concerns.",
        labels=["name", "severity", "subject"],
    )
    for key in {(each.name, each.severity, each.subject) for each in conditions}:
        metric.add_metric(key, 1)
    return metric


def _describe_status(status: NodeStatus, node: Node) -> Iterator[Metric]:
    buffer, store = status.buffer, status.store
    quarantined = store.quarantine if node.master is not None else None
    yield _gauge("buffer_records", "Webhooks waiting for the store.", buffer.records)
    yield _gauge("buffer_bytes", "Bytes of webhooks waiting for the store.", buffer.bytes)
    yield _gauge(
        "buffer_fill_ratio",
        "Fill level of the buffer: at 1, webhooks get 503.",
        find_fill(buffer, node.settings),
    )
    yield _counter(
        "webhooks_collapsed",
        "Repeats that got the pair of an equal webhook of the same moment.",
        buffer.collapsed,
    )
    yield _gauge(
        "horizon_age_seconds",
        "Age of the horizon in seconds: everything received before it is committed.",
        max(0, status.now - status.horizon) / 1000,
    )
    yield _gauge(
        "clock_ahead_seconds",
        "How far the machine's clock is ahead of the date that the node uses instead; 0 while the "
        "clock is used.",
        status.clock.ahead_ms / 1000,
    )
    yield _gauge(
        "store_ahead_seconds",
        "How far the next timestamp is ahead of the date.",
        status.clock.store_ahead_ms / 1000,
    )
    for name, meaning, value in (
        ("store_records", "Records in the store.", store.records),
        ("store_bytes", "Size of the store in bytes.", store.bytes),
        ("store_files", "Files of the store.", store.files),
        (
            "store_unchecked_files",
            "Files that the node has not read since it opened the store.",
            store.unchecked,
        ),
        ("quarantine_records", "Records in quarantine.", quarantined and quarantined.records),
        ("quarantine_bytes", "Bytes of records in quarantine.", quarantined and quarantined.bytes),
        ("store_damaged_parts", "Parts of the store that cannot be read.", len(store.damaged)),
        (
            "store_gaps",
            "Windows of records that retention removed before a master had synced them.",
            len(store.gaps),
        ),
    ):
        if value is not None:
            yield _gauge(name, meaning, value)
    damaged = GaugeMetricFamily(
        "webhook_sync_store_part_damaged",
        "1 for each part of the store that cannot be read, by its name.",
        labels=["part"],
    )
    for part in store.damaged[:MAX_DAMAGED]:
        damaged.add_metric([part.name], 1)
    yield damaged


def _describe_slaves(master: Master, now: int) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "webhook_sync_cursor_age_seconds",
        "Age of a slave's cursor in seconds: its records before the cursor are in the master.",
        labels=["slave"],
    )
    well = GaugeMetricFamily(
        "webhook_sync_slave_ok",
        "1 if the last sync of a slave succeeded, else 0; 0 before the first one.",
        labels=["slave"],
    )
    lost = GaugeMetricFamily(
        "webhook_sync_slave_losses",
        "Losses of a slave that no operator has acknowledged: its webhooks may be missing.",
        labels=["slave"],
    )
    for name, state in master.slave_states().items():
        complete = slave_complete_until(state)
        if complete:
            age.add_metric([name], max(0, now - complete) / 1000)
        well.add_metric([name], float(bool(state.report) and read_report(state).ok))
        lost.add_metric([name], len(find_open_losses(state.losses)))
    yield age
    yield well
    yield lost


def _describe_consumers(consumers: Consumers) -> Metric:
    lag = GaugeMetricFamily(
        "webhook_sync_consumer_lag_seconds",
        "For how long the first webhook that a registered consumer has not read has been in the "
        "master; -1 if its position is unknown.",
        labels=["consumer"],
    )
    for one in consumers.describe():
        lag.add_metric([one.name], -1 if one.lag_ms is None else one.lag_ms / 1000)
    return lag


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"webhook_sync_{name}", meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"webhook_sync_{name}", meaning, value=value)
