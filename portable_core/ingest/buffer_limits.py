"""The limits of a buffer."""

from __future__ import annotations

from dataclasses import dataclass

from portable_core.ingest.timestamps import MOST_LEAD_MS
from portable_core.ports import Milliseconds


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """Limits of a buffer.

    - ``commit_timeout_s``: the longest time from a record's timestamp to its commit.
    - ``linger_s``: the longest time that the first record of a batch waits for more.
    - ``records`` and ``bytes``: the most that may be pending.
    - ``lead_ms``: how far webhooks with one hash may push timestamps ahead of the date.
    """

    commit_timeout_s: float
    linger_s: float
    records: int
    bytes: int
    lead_ms: Milliseconds = MOST_LEAD_MS
