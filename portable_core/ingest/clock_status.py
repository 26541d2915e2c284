"""What is wrong with a node's clock, or with the timestamps of its store, for people."""

from __future__ import annotations

from dataclasses import dataclass

from portable_core.ingest.plausible_clock import find_limit
from portable_core.ports import Milliseconds


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """The clock of a node beside its timestamps.

    - ``ahead_ms``: how far the clock's reading is ahead of the date that the node uses instead; 0
      while the reading is used.
    - ``since``: the date when that began, None while the reading is used.
    - ``store_ahead_ms``: how far the next timestamp is ahead of that date.
    """

    ahead_ms: Milliseconds = 0
    since: Milliseconds | None = None
    store_ahead_ms: Milliseconds = 0


def describe_clock(status: ClockStatus, span_ms: Milliseconds) -> list[str]:
    """Return a sentence for each thing that is wrong, and what to do about it."""
    found = []
    if status.ahead_ms:
        found.append(
            f"clock: this machine's clock is {status.ahead_ms / 1000:.1f} s ahead of the "
            "expected date, which the node uses instead. Check the clock; if it is right, the node "
            f"uses it after {span_ms / 1000:g} s."
        )
    if status.store_ahead_ms > find_limit(span_ms):
        found.append(
            f"store: its timestamps are {status.store_ahead_ms / 1000:.1f} s ahead of this "
            "machine's clock. If the clock is right, stop this node and run webhook-sync repair."
        )
    return found
