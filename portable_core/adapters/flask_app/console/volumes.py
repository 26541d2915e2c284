"""The volume of each source by the hour, from the index for searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portable_core.ports import Milliseconds, SearchIndex, SourceVolume
from portable_core.sync.report import HOUR_MS

_HOURS = 24
_MOST_SOURCES = 8

_NONE = SourceVolume(0, 0)

#: The name under which the sources beyond the largest ones are counted together.
OTHERS = "…"


@dataclass(frozen=True, slots=True)
class VolumeBar:
    """One hour of the chart of a source."""

    start: Milliseconds
    direct: int
    recovered: int


@dataclass(frozen=True, slots=True)
class SourceChart:
    """The last 24 hours of a source, the current one last. ``name`` is empty for no source."""

    name: str
    bars: Sequence[VolumeBar]

    @property
    def direct(self) -> int:
        return sum(bar.direct for bar in self.bars)

    @property
    def recovered(self) -> int:
        return sum(bar.recovered for bar in self.bars)

    @property
    def tallest(self) -> int:
        return max(1, *(bar.direct + bar.recovered for bar in self.bars))

    @property
    def is_rest(self) -> bool:
        return self.name == OTHERS


def read_charts(index: SearchIndex | None, now: Milliseconds) -> list[SourceChart]:
    """Return a chart for each of the largest sources, and one for the others together."""
    if index is None:
        return []
    last = now // HOUR_MS
    hours = [hour * HOUR_MS for hour in range(last - _HOURS + 1, last + 1)]
    return make_charts(index.volumes(hours[0], hours[-1] + HOUR_MS), hours)


def make_charts(
    volumes: Mapping[Milliseconds, Mapping[str, SourceVolume]], hours: Sequence[Milliseconds]
) -> list[SourceChart]:
    names = {name for hour in hours for name in volumes.get(hour, ())} - {OTHERS}
    charts = [SourceChart(name, _make_bars(volumes, hours, [name])) for name in names]
    charts.sort(key=lambda chart: (-chart.direct - chart.recovered, chart.name))
    rest = [OTHERS, *(chart.name for chart in charts[_MOST_SOURCES:])]
    others = SourceChart(OTHERS, _make_bars(volumes, hours, rest))
    shown = charts[:_MOST_SOURCES]
    return [*shown, others] if others.direct or others.recovered else shown


def _make_bars(
    volumes: Mapping[Milliseconds, Mapping[str, SourceVolume]],
    hours: Sequence[Milliseconds],
    names: Sequence[str],
) -> list[VolumeBar]:
    bars = []
    for hour in hours:
        found = [volumes.get(hour, {}).get(name, _NONE) for name in names]
        bars.append(VolumeBar(hour, sum(v.direct for v in found), sum(v.recovered for v in found)))
    return bars
