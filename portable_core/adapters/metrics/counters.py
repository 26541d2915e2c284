"""Metrics of one node in Prometheus' text format (prometheus-client), on a registry of their own.

Events are counted as they happen; states (buffer, store, horizon, cursors) are read for each
scrape. Each process counts its own: of several instances, each answers ``/metrics`` for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from portable_core.adapters.metrics.durations import Durations
from portable_core.adapters.metrics.node_state import NodeCollector
from portable_core.ingest.refusals import SourceNames
from portable_core.node import Node
from portable_core.ports import Milliseconds
from portable_core.settings import Settings
from portable_core.sync.observer import Observer
from portable_core.sync.report import SlaveReport, SyncReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SYNC_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 240)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class Metrics(Observer):
    """The metrics of one node. Safe to use from any number of threads."""

    def __init__(self, settings: Settings, version: str = "unknown") -> None:
        self._version = version
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
        self._ack_seconds = Durations(
            "webhook_sync_ack_seconds",
            "Time from a webhook's request to its acknowledgement, in seconds.",
            _SECONDS,
        )
        registry.register(self._ack_seconds)
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
        self._find_count(source, outcome).inc()
        if outcome == "kept":
            self._ack_seconds.observe((seconds,))

    def observe_kept(self, source: str, seconds: Sequence[float]) -> None:
        """Count webhooks that were kept, and their times."""
        self._find_count(source, "kept").inc(len(seconds))
        self._ack_seconds.observe(seconds)

    def _find_count(self, source: str, outcome: str) -> Counter:
        count = self._counts.get((source, outcome))
        if count is None:
            bound = self._sources.bound(source)
            count = self._webhooks.labels(bound, outcome)
            if bound == source:  # of these there are few; outcomes are the types of problems
                self._counts[source, outcome] = count
        return count

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
        successes = {} if self._syncs is None else self._syncs.successes
        registry.register(NodeCollector(node, self._version, successes))
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version like 1.x
            encode, content_type = choose_encoder("")
        return encode(registry), content_type


class _SyncMetrics:
    """Metrics of a master's syncs, by slave.

    ``successes`` has the dates of the last syncs that succeeded, in ms.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.successes: dict[str, Milliseconds] = {}

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
        if report.ok:
            self.successes[name] = report.started
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
