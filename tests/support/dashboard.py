"""The dashboard's panels, asked of a Prometheus and drawn: a stand-in for Grafana."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DASHBOARD = Path(__file__).parents[2] / "containers" / "monitoring" / "dashboard.json"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_CELL = 1.3, 0.42  # inches


class Series:
    """A series of a panel: its legend, and its values by time."""

    def __init__(self, legend: str, values: Sequence[tuple[float, str]]) -> None:
        self.legend = legend
        self.times = [time for time, _ in values]
        self.values = [float(value) for _, value in values]


def read_panels() -> list[dict[str, Any]]:
    """Return the panels that show something, without the rows between them."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def ask_panel(prometheus: str, panel: Mapping[str, Any], start: float, end: float) -> list[Series]:
    """Return the series of a panel between two times, in seconds, a value each second."""
    found = []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "5s").replace("$instance", ".*")
        query = {"query": expression, "start": start, "end": end, "step": 1}
        address = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with _OPENER.open(address, timeout=10) as answer:
            results = json.load(answer)["data"]["result"]
        pattern = target.get("legendFormat") or ""
        for result in results:
            labels = result["metric"]
            legend = re.sub(r"{{(\w+)}}", lambda m, known=labels: known.get(m[1], ""), pattern)
            found.append(Series(legend or ", ".join(labels.values()), result["values"]))
    return found


def draw(panels: Mapping[int, list[Series]], path: Path) -> None:
    """Draw all panels at their places into a PNG."""
    places = {panel["id"]: panel for panel in read_panels()}
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in places.values())
    figure = Figure(figsize=(24 * _CELL[0] / 1.6, height * _CELL[1]))
    for number, series in panels.items():
        place = places[number]["gridPos"]
        axes = figure.add_axes(
            (
                place["x"] / 24 + 0.02,
                1 - (place["y"] + place["h"] - 0.9) / height,
                place["w"] / 24 - 0.03,
                (place["h"] - 2.2) / height,
            )
        )
        _draw_panel(axes, places[number], series)
    figure.savefig(path, dpi=60)


def _draw_panel(axes: Axes, panel: Mapping[str, Any], series: list[Series]) -> None:
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    axes.set_title(f"{panel['title']} ({unit})", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    if panel["type"] == "timeseries":
        start = min((each.times[0] for each in series), default=0)
        for each in series:
            axes.plot([time - start for time in each.times], each.values, label=each.legend)
        if series:
            axes.legend(fontsize=7, loc="upper left")
        return
    axes.set_axis_off()
    lines = [f"{each.legend}  {each.values[-1]:g}" for each in series]
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=12 if len(lines) < 3 else 8)


def is_drawn(series: Sequence[Series]) -> bool:
    """Return whether a panel has a value to show."""
    return any(not math.isnan(value) for each in series for value in each.values)
