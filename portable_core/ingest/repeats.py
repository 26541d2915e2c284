"""Equal webhooks that come faster than one a millisecond.

Two records of one node with the same hash need two timestamps, so such webhooks push the timestamps
of everything ahead of the date. Beyond a small bound a repeat, by its key, gets the pair of the
equal webhook before it: it is the same webhook, and represented as soon as that is committed.
"""

from __future__ import annotations

from collections import deque

from portable_core.errors import BufferFull
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.ingest.outcome import Resolvable
from portable_core.ingest.pending import PendingRecord
from portable_core.ingest.timestamps import Timestamps
from portable_core.records import Pair

#: How far ahead of the date timestamps may be pushed before repeats collapse.
COLLAPSE_MS = 50


class Repeats:
    """The records that pushed the timestamps ahead, by key. The buffer holds its lock.

    Each has a timestamp of its own, and those that the date has passed are forgotten: they are at
    most as many as the milliseconds by which timestamps may be pushed.
    """

    def __init__(self, timestamps: Timestamps, limits: BufferLimits) -> None:
        self._timestamps = timestamps
        self._bound = min(COLLAPSE_MS, limits.lead_ms // 2)
        self._most_followers = limits.records
        self._followers = 0
        self._by_key: dict[str, PendingRecord] = {}
        self._oldest: deque[PendingRecord] = deque()
        #: How many repeats have got the pair of an equal webhook.
        self.collapsed = 0

    def __len__(self) -> int:
        return len(self._oldest)

    def find(self, key: str) -> PendingRecord | None:
        """Return the record whose outcome a webhook with this key gets; None if it needs its own.

        The record is, or may still be, committed.
        """
        pending = self._by_key.get(key)
        if pending is None or (pending.done and pending.error is not None):
            return None
        return pending if self._timestamps.find_lead() > self._bound else None

    def note(self, pending: PendingRecord) -> None:
        """Remember a record that has pushed the timestamps ahead."""
        passed = pending.record.pair.timestamp - self._timestamps.find_lead()
        while self._oldest and self._oldest[0].record.pair.timestamp < passed:
            forgotten = self._oldest.popleft()
            if self._by_key.get(forgotten.record.meta.key) is forgotten:
                del self._by_key[forgotten.record.meta.key]
        if pending.record.meta.key:
            self._by_key[pending.record.meta.key] = pending
            self._oldest.append(pending)

    def collapse(self, pending: PendingRecord, outcome: Resolvable[Pair]) -> None:
        """Give a repeat the outcome of ``pending``, which is not done.

        Raises ``BufferFull`` if too many repeats wait already.
        """
        if self._followers >= self._most_followers:
            raise BufferFull(f"{self._followers} repeats wait for the store; send it again")
        self._followers += 1
        if pending.followers is None:
            pending.followers = []
        pending.followers.append(outcome)

    def detach(self, pending: PendingRecord) -> list[Resolvable[Pair]]:
        """Return the outcomes of the repeats of a record that is done, once."""
        followers, pending.followers = pending.followers or [], None
        self._followers -= len(followers)
        return followers
