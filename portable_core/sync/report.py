"""What a sync did, slave by slave: frozen values, with their JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from portable_core.ports import Milliseconds


@dataclass(frozen=True, slots=True)
class SlaveReport:
    """One slave's part of a sync.

    ``started``: 0 where it did not get its turn; ``windows``: requests made; ``cut``: how many of
    them were not answered to the end; ``represented``: records received that the master turned out
    to have (nothing needless is stored); ``set_aside``: records in quarantine; ``cursor`` and
    ``behind_ms`` (how far it lies behind the end that was aimed at) tell how far the master has
    everything.
    """

    slave: str
    started: Milliseconds = 0
    windows: int = 0
    cut: int = 0
    pairs_sent: int = 0
    records_received: int = 0
    saved: int = 0
    represented: int = 0
    set_aside: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    cursor: Milliseconds | None = None
    behind_ms: Milliseconds | None = None
    skew_ms: Milliseconds | None = None
    horizon: Milliseconds | None = None
    encoding: str = ""
    warning: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def find_begin(report: Mapping[str, object]) -> Milliseconds:
    """When the last turn of a slave began, by what is kept of its reports; 0 if it had none."""
    began = report.get("started", 0)
    return began if isinstance(began, int) else 0


HOUR_MS = 3_600_000
_DAY_HOURS = 24


def extend_day(
    day: object, now: Milliseconds, missed: Mapping[int, int], recovered: int
) -> list[list[int]]:
    """The last day of a slave by the hour, as ``[hour, missed, recovered]`` in order, with a sync's
    part added: hours since the epoch, webhooks that were stamped in it and lacked in the master,
    and webhooks that were recovered in it. ``day`` is an earlier result, or anything else."""
    this = now // HOUR_MS
    hours: dict[int, list[int]] = {}
    for entry in day if isinstance(day, list) else []:
        hour, *counts = entry
        hours[hour] = counts
    for hour, count in missed.items():
        hours.setdefault(hour, [0, 0])[0] += count
    if recovered:
        hours.setdefault(this, [0, 0])[1] += recovered
    return [[hour, *hours[hour]] for hour in sorted(hours) if this - _DAY_HOURS < hour <= this + 1]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """All slaves' reports, in the order in which they were synced."""

    started: Milliseconds
    seconds: float
    slaves: Sequence[SlaveReport]

    @property
    def ok(self) -> bool:
        return all(slave.ok for slave in self.slaves)

    def to_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "slaves": [slave.to_json() for slave in self.slaves],
        }
