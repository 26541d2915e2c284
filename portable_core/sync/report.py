"""What a sync did, slave by slave: frozen values and their JSON form.

Reading tolerates what other releases wrote: unknown members are ignored, missing ones have their
defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from portable_core.ports import Milliseconds, SlaveState
from portable_core.records import Integer

HOUR_MS = 3_600_000
_DAY_HOURS = 24

#: The most syncs in ``again_at``.
_MOST_AGAIN = 10

_Amount = Annotated[float, msgspec.Meta(ge=0)]


class SlaveReport(msgspec.Struct, frozen=True):
    """One slave's part of a sync.

    - ``started``: 0 if the slave did not get its turn.
    - ``windows``: requests made; ``parts``: how many of them compared a part of the hashes;
      ``cut``: how many of them were not answered to the end.
    - ``represented``: records received that were represented in the master already.
    - ``set_aside``: records in quarantine.
    - ``repeats``: records saved whose key was in the master already.
    - ``again``: records saved that an earlier sync had found in the master: its store lost them.
    - ``similar``: by source, the JSON Pointers of the few members in which records saved differ
      from records that the master had: the source needs an identity rule.
    - ``expected_collisions``: how many two of the webhooks that were compared share a hash by
      chance, at most a span apart, by the number of webhooks and the length of the hash.
    - ``cursor``: every record before it is represented in the master; ``behind_ms``: how far it
      lies behind the end that the sync aimed at.
    - ``losses``: the losses of the slave that no operator has acknowledged.
    - ``error`` and ``warning``: texts, empty if there is none. ``error_type`` and ``warning_type``:
      the name of the class of the error behind the text, such as ``SlaveUnreachable``; empty in
      reports of older releases and for warnings without an error behind them.
    """

    slave: str
    started: Milliseconds = 0
    windows: Integer = 0
    parts: Integer = 0
    cut: Integer = 0
    pairs_sent: Integer = 0
    records_received: Integer = 0
    saved: Integer = 0
    represented: Integer = 0
    set_aside: Integer = 0
    repeats: Integer = 0
    again: Integer = 0
    similar: dict[str, list[str]] = msgspec.field(default_factory=dict)
    bytes_sent: Integer = 0
    bytes_received: Integer = 0
    expected_collisions: _Amount = 0.0
    seconds: _Amount = 0.0
    cursor: Milliseconds | None = None
    behind_ms: Milliseconds | None = None
    skew_ms: int | None = None
    horizon: Milliseconds | None = None
    encoding: str = ""
    warning: str = ""
    warning_type: str = ""
    error: str = ""
    error_type: str = ""
    losses: Integer = 0

    @property
    def ok(self) -> bool:
        return not self.error

    def to_json(self) -> dict[str, object]:
        document: dict[str, object] = msgspec.to_builtins(self)
        document["seconds"] = round(self.seconds, 3)
        document["expected_collisions"] = float(f"{self.expected_collisions:.3g}")
        return document


class SyncReport(msgspec.Struct, frozen=True):
    """All slaves' reports, in the order in which they were synced."""

    started: Milliseconds
    seconds: _Amount
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


class HourCounts(msgspec.Struct, frozen=True, array_like=True):
    """One hour of a slave, counted from the Unix epoch.

    ``missed``: webhooks with timestamps in it that the master lacked; ``recovered``: webhooks that
    the master recovered in it.
    """

    hour: Integer
    missed: Integer = 0
    recovered: Integer = 0


class StoredReport(SlaveReport, frozen=True):
    """The last report of a slave as the master's store keeps it.

    - ``started``: the start of the slave's last turn.
    - ``day``: its last 24 hours, in order.
    - ``reached``: the largest cursor in the current epoch of the slave's store. The cursor itself
      is set back when the master's store loses records.
    - ``again_at``: the starts of the last syncs with records in ``again``.
    """

    day: Sequence[HourCounts] = ()
    reached: Milliseconds = 0
    again_at: Sequence[Milliseconds] = ()


def read_report(state: SlaveState) -> StoredReport:
    """Return the last report of a slave; an empty one if there is none or it cannot be read."""
    try:
        return msgspec.convert({"slave": "", **state.report}, StoredReport)
    except msgspec.ValidationError:
        return StoredReport("")


def extend_day(
    day: Sequence[HourCounts], now: Milliseconds, missed: Mapping[int, int], recovered: int
) -> list[HourCounts]:
    """Return ``day`` with a sync's part added, without hours that are more than a day ago.

    ``missed`` counts by hour; ``recovered`` counts what the sync recovered now.
    """
    this = now // HOUR_MS
    all_missed, all_recovered = dict(missed), {this: recovered}
    for counts in day:
        all_missed[counts.hour] = all_missed.get(counts.hour, 0) + counts.missed
        all_recovered[counts.hour] = all_recovered.get(counts.hour, 0) + counts.recovered
    hours = (
        HourCounts(hour, all_missed.get(hour, 0), all_recovered.get(hour, 0))
        for hour in sorted({*all_missed, *all_recovered})
        if this - _DAY_HOURS < hour <= this + 1
    )
    return [counts for counts in hours if counts.missed or counts.recovered]


def extend_again(
    before: Sequence[Milliseconds], started: Milliseconds, again: int
) -> list[Milliseconds]:
    """Return the starts of the last syncs that saved records again, with that of one more."""
    return [*before, started][-_MOST_AGAIN:] if again else list(before)


class HandOverReport(msgspec.Struct, frozen=True):
    """What the master did with the records of a hand-over.

    All of them are durable, except for the ``refused`` ones: they are invalid, and the quarantine
    is full.
    """

    received: Integer
    saved: Integer
    represented: Integer
    set_aside: Integer
    refused: Integer = 0
