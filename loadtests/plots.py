"""The reports' plots, as PNG."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no display

from matplotlib import pyplot

from loadtests.ledger import Ledger, PairIndex
from loadtests.senders import Timeline
from portable_core.records import Record

_COLOURS = {"master": "tab:blue", "slave-1": "tab:orange", "slave-2": "tab:green"}


def plot_latencies(timeline: Timeline, path: Path) -> None:
    """A dot an acknowledgement, a cross a refusal, a bar a fault."""
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(14, 9), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    for node in sorted({node for _, node, _ in timeline.latencies}):
        dots = [(at, latency) for at, who, latency in timeline.latencies if who == node]
        top.scatter(*zip(*dots, strict=True), s=2, label=node, color=_COLOURS.get(node))
    top.set_yscale("log")
    top.set_ylabel("acknowledged after, ms")
    for at, _ in timeline.refused:
        top.axvline(at, 0, 0.03, color="red", linewidth=0.3)
    top.legend(loc="upper right", markerscale=4)
    _mark_faults(top, timeline)
    kinds = sorted({label for _, _, label in timeline.faults})
    for begun, ended, label in timeline.faults:
        bottom.barh(kinds.index(label), ended - begun, left=begun, height=0.7, color="tab:red")
    bottom.set_yticks(range(len(kinds)), kinds, fontsize=7)
    bottom.set_xlabel("seconds; red at the top's foot: refused or unanswered")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def plot_recovery(
    timeline: Timeline, ledger: Ledger, records: Sequence[Record], path: Path
) -> None:
    """How many acknowledged webhooks the master lacked at each moment, and what syncs brought."""
    own = PairIndex(
        ledger.span_ms, [[record.pair for record in records if record.recovery is None]]
    )
    first: dict[bytes, float] = {}
    for webhook in ledger.acknowledged:
        if not own.represents(webhook.pair):
            first[webhook.value] = min(webhook.at, first.get(webhook.value, webhook.at))
    begun = sorted(first.values())
    recovered = 0
    steps = []
    for at, saved, _ in timeline.syncs:
        recovered += saved
        steps.append((at, recovered))
    figure, axes = pyplot.subplots(figsize=(14, 5), layout="constrained")
    axes.step(begun, range(1, len(begun) + 1), where="post", label="the master never received")
    axes.step(*zip(*(steps or [(0.0, 0)]), strict=True), where="post", label="recovered by syncs")
    moments = [at for at, _ in steps]
    lacked = [max(0, bisect_right(begun, at) - count) for at, count in steps]
    axes.fill_between(moments, lacked, alpha=0.3, label="missing")
    _mark_faults(axes, timeline)
    axes.set_xlabel("seconds")
    axes.set_ylabel("webhooks")
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def plot_peers(rounds: Mapping[str, Sequence[float]], title: str, unit: str, path: Path) -> None:
    """A bar each, at the median, with the spread of its rounds."""
    names = list(rounds)
    middle = [median(values) for values in rounds.values()]
    spread = [
        [value - min(values) for value, values in zip(middle, rounds.values(), strict=True)],
        [max(values) - value for value, values in zip(middle, rounds.values(), strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.4 * len(names)), layout="constrained")
    axes.barh(names, middle, xerr=spread, capsize=3)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel(unit)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _mark_faults(axes: Any, timeline: Timeline) -> None:
    for begun, ended, _ in timeline.faults:
        axes.axvspan(begun, ended, color="tab:red", alpha=0.06)
