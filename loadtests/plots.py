"""The reports' plots, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no display

from matplotlib import pyplot

from loadtests.timeline import Course, Timeline

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:cyan")


def plot_latencies(timeline: Timeline, path: Path) -> None:
    """A dot an acknowledgement, a stroke a refusal, a bar a fault."""
    kinds = sorted({label for _, _, label in timeline.faults})
    figure, axes = pyplot.subplots(
        *(2 if kinds else 1, 1),
        figsize=(14, 9 if kinds else 5),
        sharex=True,
        squeeze=False,
        height_ratios=(3, 2) if kinds else (1,),
        layout="constrained",
    )
    top = axes[0][0]
    for number, node in enumerate(sorted({node for _, node, _ in timeline.latencies})):
        dots = [(at, latency) for at, who, latency in timeline.latencies if who == node]
        colour = _COLOURS[number % len(_COLOURS)]
        top.scatter(*zip(*dots, strict=True), s=3, alpha=0.5, label=node, color=colour)
    top.set_yscale("log")
    top.set_title("Latency: each acknowledgement; red strokes: refused or unanswered")
    top.set_ylabel("acknowledged after, ms")
    top.vlines(
        [at for at, _ in timeline.refused],
        *(0, 0.03),
        transform=top.get_xaxis_transform(),
        color="red",
        linewidth=0.3,
    )
    if timeline.latencies:
        top.legend(loc="upper right", markerscale=4)
    _mark_faults(top, timeline)
    for begun, ended, label in timeline.faults:
        axes[1][0].barh(kinds.index(label), ended - begun, left=begun, height=0.7, color="tab:red")
    if kinds:
        axes[1][0].set_yticks(range(len(kinds)), kinds, fontsize=7)
        axes[1][0].set_title("Faults")
    axes[-1][0].set_xlabel("seconds")
    _save(figure, path)


def plot_course(timeline: Timeline, course: Course, path: Path) -> None:
    """What the master lacked at each moment, and what syncs had brought by then."""
    figure, axes = pyplot.subplots(figsize=(14, 5), layout="constrained")
    if course.missing:
        moments, counts = zip(*course.missing, strict=True)
        label = "missing in the master, acknowledged by a node"
        axes.fill_between(moments, counts, step="post", alpha=0.4, color="tab:red", label=label)
    if course.recovered:
        moments, counts = zip(*course.recovered, strict=True)
        axes.step(moments, counts, where="post", color="tab:blue", label="recovered by syncs")
    _mark_faults(axes, timeline)
    axes.set_ylim(bottom=0)
    axes.set_title("Missing and recovered" + ("; shaded: faults" if timeline.faults else ""))
    axes.set_xlabel("seconds")
    axes.set_ylabel("webhooks")
    if course.missing or course.recovered:
        axes.legend(loc="upper left")
    _save(figure, path)


def plot_peers(rounds: Mapping[str, Sequence[float]], title: str, unit: str, path: Path) -> None:
    """A bar each, at the median, with the spread of its rounds."""
    names = list(rounds)
    middle = [median(values) for values in rounds.values()]
    spread = [
        [value - min(values) for value, values in zip(middle, rounds.values(), strict=True)],
        [max(values) - value for value, values in zip(middle, rounds.values(), strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.4 * len(names)), layout="constrained")
    axes.barh(names, middle, xerr=spread, capsize=3)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel(unit)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _mark_faults(axes: Any, timeline: Timeline) -> None:
    for begun, ended, _ in timeline.faults:
        axes.axvspan(begun, ended, color="tab:red", alpha=0.06, linewidth=0)
