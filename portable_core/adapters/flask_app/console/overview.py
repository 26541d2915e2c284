"""The data of the overview: whether the master is complete, and if not, which slave is late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from portable_core.adapters.flask_app.console.texts import advise
from portable_core.epochs import NotedLoss
from portable_core.errors import SlaveUnreachable
from portable_core.ingest.clock_status import describe_clock
from portable_core.ingest.receiver import NodeStatus
from portable_core.ingest.refusals import Refusal
from portable_core.node import Node
from portable_core.ports import Milliseconds, SlaveState
from portable_core.sync.completeness import complete_until, slave_complete_until
from portable_core.sync.master import Master
from portable_core.sync.report import (
    HOUR_MS,
    HourCounts,
    SlaveReport,
    StoredReport,
    read_report,
)
from portable_core.sync.resuming import LOSSES_WARNING, describe_losses, find_open_losses
from portable_core.sync.status import ConsumerDocument
from portable_core.webhooks.search import Row, Search, read_page

#: ``good``: complete; ``late``: a sync is overdue; ``bad``: the last sync failed.
Level = Literal["good", "late", "bad", "unknown"]

_RATE_WINDOW_MS = 60_000
_MOST_COUNTED = 300_000
_LAST_ROWS = 8
_LAST_REFUSALS = 12
_HOURS = 24

_NEVER_SYNCED: tuple[Level, str, str] = (
    "unknown",
    "never synced",
    "Press “Sync now”. Then set SYNC_EVERY_S=60, or let a scheduler call POST /trigger-sync.",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour of the chart: its start, the webhooks missed in it and recovered in it."""

    start: Milliseconds
    missed: int
    recovered: int


@dataclass(frozen=True, slots=True)
class SlaveView:
    """The state of one slave.

    - ``reached``: the time up to which the slave is complete; None if it was never synced.
    - ``losses``: how many of its losses no operator has acknowledged.
    """

    name: str
    level: Level
    verdict: str
    advice: str
    reached: Milliseconds | None
    age_ms: Milliseconds | None
    report: StoredReport
    reachable: str
    bars: Sequence[Bar]
    losses: int

    @property
    def tallest(self) -> int:
        return max(1, *(max(bar.missed, bar.recovered) for bar in self.bars))

    @property
    def missed(self) -> int:
        return sum(bar.missed for bar in self.bars)

    @property
    def recovered(self) -> int:
        return sum(bar.recovered for bar in self.bars)


@dataclass(frozen=True, slots=True)
class Overview:
    """The data of the page. ``complete_until`` is 0 if a slave was never synced."""

    level: Level
    complete_until: Milliseconds
    status: NodeStatus
    slaves: Sequence[SlaveView]
    rate: int
    rate_is_floor: bool
    last: Sequence[Row]
    quarantined: int
    consumers: Sequence[ConsumerDocument]

    @property
    def losses(self) -> int:
        return sum(slave.losses for slave in self.slaves)

    warnings: Sequence[str]
    refusals: Sequence[Refusal]


def read_overview(node: Node, master: Master) -> Overview:
    """Return the data of the page, from the store and the last reports; no slave is called."""
    status = node.receiver.status()
    now, late_ms = status.now, node.settings.console_late_ms
    watched = {n: state for n, state in master.slave_states().items() if n in master.clients}
    slaves = [describe_slave(name, state, now, late_ms) for name, state in watched.items()]
    store = node.receiver.store
    recent = store.pairs(now - _RATE_WINDOW_MS, now + 1)
    rate = sum(1 for _ in islice(recent, _MOST_COUNTED))
    level: Level = "good"
    for rank in ("unknown", "late", "bad"):
        if any(slave.level == rank for slave in slaves):
            level = rank
    return Overview(
        level,
        complete_until(status.horizon, watched.values()),
        status,
        slaves,
        rate,
        rate >= _MOST_COUNTED,
        read_page(store, Search(), limit=_LAST_ROWS).rows,
        master.quarantine.size().records,
        () if node.consumers is None else node.consumers.describe(),
        describe_clock(status.clock, node.settings.span_ms),
        node.refusals.list_all()[:_LAST_REFUSALS],
    )


def describe_slave(
    name: str, state: SlaveState, now: Milliseconds, late_ms: Milliseconds
) -> SlaveView:
    """Return the state of one slave, from the report of its last sync and the age of its cursor."""
    report = read_report(state)
    reached = slave_complete_until(state) or None
    age = None if reached is None else max(0, now - reached)
    synced = bool(state.report)
    losses = find_open_losses(state.losses)
    level, verdict, advice = _judge(report, age, late_ms, losses) if synced else _NEVER_SYNCED
    reachable = "unknown"
    if synced:
        reachable = "no" if report.error_type == SlaveUnreachable.__name__ else "yes"
    bars = make_bars(report.day, now)
    return SlaveView(
        name, level, verdict, advice, reached, age, report, reachable, bars, len(losses)
    )


def _judge(
    report: SlaveReport,
    age: Milliseconds | None,
    late_ms: Milliseconds,
    losses: Sequence[NotedLoss],
) -> tuple[Level, str, str]:
    if report.error:
        return "bad", report.error, advise(report.error_type)
    if losses:
        return "bad", describe_losses(losses), advise(LOSSES_WARNING)
    if age is None or age > late_ms:
        return (
            "late",
            "late: webhooks received since its last sync may be missing in the master",
            "Press “Sync now”. Check that the scheduler still calls POST /trigger-sync.",
        )
    if report.warning:
        return "late", report.warning, advise(report.warning_type)
    return "good", "complete", ""


def make_bars(day: Iterable[HourCounts], now: Milliseconds) -> list[Bar]:
    """Return the last 24 hours, the current one last, from a report's ``day``."""
    known = {counts.hour: counts for counts in day}
    this = now // HOUR_MS
    hours = range(this - _HOURS + 1, this + 1)
    chart = [known.get(hour, HourCounts(hour)) for hour in hours]
    return [Bar(counts.hour * HOUR_MS, counts.missed, counts.recovered) for counts in chart]
