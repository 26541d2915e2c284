"""The state of a node as metrics, read for each scrape."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from portable_core.ingest.receiver import NodeStatus, find_fill
from portable_core.node import Node
from portable_core.ports import Milliseconds, SlaveState
from portable_core.settings import Settings
from portable_core.sync.completeness import slave_complete_until
from portable_core.sync.conditions import Condition
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.master import Master
from portable_core.sync.provider_log import ProviderLogClient
from portable_core.sync.report import read_report
from portable_core.sync.resuming import find_open_losses

#: Most damaged parts of the store that are named; ``store_damaged_parts`` counts all.
MAX_DAMAGED = 64


class NodeCollector(Collector):
    """Reads the node's state for each scrape.

    ``version`` is that of the distribution; ``successes`` has the dates of the last syncs that
    succeeded, in ms, by slave.
    """

    def __init__(self, node: Node, version: str, successes: Mapping[str, Milliseconds]) -> None:
        self._node = node
        self._version = version
        self._successes = successes

    def collect(self) -> Iterator[Metric]:
        node = self._node
        yield _describe_build(node.settings, self._version)
        yield from _describe_disk(node.settings)
        view = node.look()
        conditions = node.find_conditions(view)
        up = not any(condition.name == "store-down" for condition in conditions)
        yield _describe_conditions(conditions)
        metrics: list[Metric] = []
        if view.status is None:
            up = False
        else:
            metrics += _describe_status(view.status, node)
            if view.slaves is not None:
                metrics += _describe_slaves(view.slaves, view.status.now, self._successes)
            if node.master is not None:
                metrics.append(_describe_logs(node.master))
            if node.consumers is not None:
                metrics.append(_describe_consumers(view.consumers))
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


def _describe_build(settings: Settings, version: str) -> Metric:
    metric = GaugeMetricFamily(
        "webhook_sync_build_info",
        "1; the labels are the version of the node and its role.",
        labels=["version", "role"],
    )
    metric.add_metric([version, settings.role], 1)
    return metric


def _describe_disk(settings: Settings) -> Iterator[Metric]:
    """Yield the free space beside the store, for a store in a folder."""
    if settings.store.kind.name != "sqlite":
        return
    with suppress(OSError):
        free = shutil.disk_usage(settings.store.path).free
        yield _gauge("disk_free_bytes", "Free bytes of the disk of the store.", free)


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


def _describe_slaves(
    states: Mapping[str, SlaveState], now: Milliseconds, successes: Mapping[str, Milliseconds]
) -> Iterator[Metric]:
    """Yield the state of each slave in ``SLAVES``; others must not cause alarms."""
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
    success = GaugeMetricFamily(
        "webhook_sync_sync_last_success_timestamp_seconds",
        "Date of the last sync of a slave that succeeded; absent before the first one.",
        labels=["slave"],
    )
    skew = GaugeMetricFamily(
        "webhook_sync_peer_clock_skew_seconds",
        "How far the timestamps of a slave were ahead of the master's at the last sync.",
        labels=["slave"],
    )
    for name, state in states.items():
        report, complete = read_report(state), slave_complete_until(state)
        last = max(successes.get(name, 0), report.started if report.ok else 0)
        if last:
            success.add_metric([name], last / 1000)
        if report.skew_ms is not None:
            skew.add_metric([name], report.skew_ms / 1000)
        if complete:
            age.add_metric([name], max(0, now - complete) / 1000)
        well.add_metric([name], float(bool(state.report) and report.ok))
        lost.add_metric([name], len(find_open_losses(state.losses)))
    yield age
    yield well
    yield lost
    yield success
    yield skew


def _describe_logs(master: Master) -> Metric:
    requests = CounterMetricFamily(
        "webhook_sync_log_requests",
        "Requests to the provider of a delivery log.",
        labels=["log"],
    )
    for client in master.clients.values():
        if isinstance(client, ProviderLogClient):
            requests.add_metric([client.name], client.log.requests)
    return requests


def _describe_consumers(consumers: Iterable[ConsumerDocument]) -> Metric:
    lag = GaugeMetricFamily(
        "webhook_sync_consumer_lag_seconds",
        "For how long the first webhook that a registered consumer has not read has been in the "
        "master; -1 if its position is unknown.",
        labels=["consumer"],
    )
    for one in consumers:
        lag.add_metric([one.name], -1 if one.lag_ms is None else one.lag_ms / 1000)
    return lag


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"webhook_sync_{name}", meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"webhook_sync_{name}", meaning, value=value)
