"""What happened when, for the plots: latencies, faults, and what the master lacked."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtests.ledger import Acknowledged, digest_value
from portable_core.records import Record


def _read_epoch_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Timeline:
    """Moments are seconds from ``begun`` (monotonic), which was ``begun_ms`` by the wall clock;
    latencies are milliseconds. ``syncs``: when, how many records it saved, whether it succeeded."""

    begun: float = field(default_factory=time.monotonic)
    begun_ms: int = field(default_factory=_read_epoch_ms)
    latencies: list[tuple[float, str, float]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    syncs: list[tuple[float, int, bool]] = field(default_factory=list)
    faults: list[tuple[float, float, str]] = field(default_factory=list)

    def now(self) -> float:
        return time.monotonic() - self.begun

    def place(self, epoch_ms: int) -> float:
        """A moment of the wall clock."""
        return (epoch_ms - self.begun_ms) / 1000


class Presence(NamedTuple):
    """From when to when the master held a webhook; ``until_ms`` is None where it still does."""

    value: bytes
    since_ms: int
    until_ms: int | None
    recovered: bool


def note_presence(records: Iterable[Record], until_ms: int | None = None) -> list[Presence]:
    """Records of the master: there since they were stamped, or recovered; gone at ``until_ms``."""
    return [
        Presence(
            digest_value(record.payload),
            record.pair.timestamp if record.recovery is None else record.recovery.at,
            until_ms,
            record.recovery is not None,
        )
        for record in records
    ]


class Course(NamedTuple):
    """Steps (second, count): acknowledged by any node and not in the master; recovered so far."""

    missing: list[tuple[float, int]]
    recovered: list[tuple[float, int]]


def follow_course(
    timeline: Timeline, acknowledged: Iterable[Acknowledged], presences: Iterable[Presence]
) -> Course:
    """What the master lacked at each moment, and how many records syncs had brought by then."""
    first: dict[bytes, float] = {}
    for webhook in acknowledged:
        first[webhook.value] = min(webhook.at, first.get(webhook.value, webhook.at))
    stays: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    brought: list[float] = []
    for presence in presences:
        since = timeline.place(presence.since_ms)
        until = float("inf") if presence.until_ms is None else timeline.place(presence.until_ms)
        stays[presence.value].append((since, until))
        if presence.recovered:
            brought.append(since)
    changes: list[tuple[float, int]] = []
    for value, begin in first.items():
        for since, until in sorted(stays.get(value, ())):
            if since > begin:
                changes += [(begin, 1), (since, -1)]
            begin = max(begin, until)
        if begin != float("inf"):
            changes.append((begin, 1))
    return Course(
        _add_up(changes),
        _add_up([(at, 1) for at in brought]),
    )


def _add_up(changes: list[tuple[float, int]]) -> list[tuple[float, int]]:
    steps, total = [], 0
    for at, change in sorted(changes):
        total += change
        steps.append((at, total))
    return steps
