"""The data of the overview: whether the master is complete, and if not, which slave is late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from portable_core.adapters.flask_app.console.volumes import SourceChart, read_charts
from portable_core.errors import LogUnreachable, SlaveUnreachable
from portable_core.ingest.receiver import NodeStatus
from portable_core.ingest.refusals import Refusal
from portable_core.node import Node
from portable_core.ports import Milliseconds, SlaveState
from portable_core.sync.completeness import complete_until, slave_complete_until
from portable_core.sync.conditions import OF_SLAVES, Condition
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.master import Master
from portable_core.sync.report import (
    HOUR_MS,
    HourCounts,
    StoredReport,
    read_report,
)
from portable_core.webhooks.search import Row, Search

#: ``good``: complete; ``late``: a sync is overdue; ``bad``: the last sync failed.
Level = Literal["good", "late", "bad", "unknown"]

_RATE_WINDOW_MS = 60_000
_MOST_COUNTED = 300_000
_LAST_ROWS = 8
_LAST_REFUSALS = 12
_HOURS = 24

#: The level of a condition, by its name or its severity; and the levels, the worst one first.
_LEVELS: Mapping[str, Level] = {
    "never-synced": "unknown",
    "slave-late": "late",
    "critical": "bad",
    "warning": "late",
    "notice": "good",
}
_RANKS: tuple[Level, ...] = ("bad", "late", "unknown")


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
    - ``conditions``: those of this slave.
    - ``log``: kind and target of a provider's delivery log; empty for a slave.
    """

    name: str
    level: Level
    conditions: Sequence[Condition]
    reached: Milliseconds | None
    age_ms: Milliseconds | None
    report: StoredReport
    reachable: str
    bars: Sequence[Bar]
    log: str = ""

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

    conditions: Sequence[Condition]
    refusals: Sequence[Refusal]
    charts: Sequence[SourceChart]

    @property
    def own(self) -> list[Condition]:
        """The conditions that no slave's card shows."""
        return [each for each in self.conditions if each.name not in OF_SLAVES]

    @property
    def names(self) -> set[str]:
        """The names of the conditions."""
        return {condition.name for condition in self.conditions}


def read_overview(node: Node, master: Master) -> Overview:
    """Return the data of the page, from the store and the last reports; no slave is called."""
    view = node.look()
    status, watched = view.require_status(), view.slaves or {}
    now, conditions = status.now, node.find_conditions(view)
    logs = {name: log.label for name, log in node.settings.provider_logs.logs.items()}
    slaves = [
        describe_slave(name, state, now, find_of_slave(conditions, name), logs.get(name, ""))
        for name, state in watched.items()
    ]
    store = node.receiver.store
    recent = store.pairs(now - _RATE_WINDOW_MS, now + 1)
    rate = sum(1 for _ in islice(recent, _MOST_COUNTED))
    return Overview(
        find_level(conditions),
        complete_until(status.horizon, watched.values()),
        status,
        slaves,
        rate,
        rate >= _MOST_COUNTED,
        node.require_finder().read_page(Search(), limit=_LAST_ROWS).rows,
        master.quarantine.size().records,
        view.consumers,
        conditions,
        node.refusals.list_all()[:_LAST_REFUSALS],
        read_charts(node.require_finder().index, now),
    )


def describe_slave(
    name: str,
    state: SlaveState,
    now: Milliseconds,
    conditions: Sequence[Condition],
    log: str = "",
) -> SlaveView:
    """Return the state of one slave, from the report of its last sync and its conditions."""
    report = read_report(state)
    reached = slave_complete_until(state) or None
    age = None if reached is None else max(0, now - reached)
    reachable = "unknown"
    if state.report:
        unreachable = (SlaveUnreachable.__name__, LogUnreachable.__name__)
        reachable = "no" if report.error_type in unreachable else "yes"
    bars = make_bars(report.day, now)
    return SlaveView(
        name, find_level(conditions), conditions, reached, age, report, reachable, bars, log
    )


def find_of_slave(conditions: Iterable[Condition], slave: str) -> list[Condition]:
    """Return the conditions of a slave; a consumer may have the same name."""
    return [each for each in conditions if each.name in OF_SLAVES and each.subject == slave]


def find_level(conditions: Iterable[Condition]) -> Level:
    """Return the level of a slave, or of a master, that has these conditions."""
    levels = {_LEVELS.get(each.name, _LEVELS[each.severity]) for each in conditions}
    return next((level for level in _RANKS if level in levels), "good")


def make_bars(day: Iterable[HourCounts], now: Milliseconds) -> list[Bar]:
    """Return the last 24 hours, the current one last, from a report's ``day``."""
    known = {counts.hour: counts for counts in day}
    this = now // HOUR_MS
    hours = range(this - _HOURS + 1, this + 1)
    chart = [known.get(hour, HourCounts(hour)) for hour in hours]
    return [Bar(counts.hour * HOUR_MS, counts.missed, counts.recovered) for counts in chart]
