"""Limits for each source, so that one noisy sender does not refuse the others.

Only webhooks that a source has admitted count: a caller without the secret cannot use up a limit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from portable_core.errors import BufferFull, TooManyWebhooks


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """The limits of one source; 0 for the default.

    - ``webhooks_per_second``: on average; as many may come at once. No limit by default.
    - ``waiting_bytes``: of webhooks that wait for the store. By default half of ``BUFFER_BYTES``.
    """

    webhooks_per_second: int = 0
    waiting_bytes: int = 0


#: The default limits.
NO_LIMITS = SourceLimits()


class LimitGuard:
    """What is used of the limits of all sources. Safe to use from any number of threads."""

    def __init__(self, limits: Mapping[str, SourceLimits], waiting_bytes: int) -> None:
        """``waiting_bytes`` is the default; ``limits`` holds the sources with others."""
        self._limits = {s: limit for s, limit in limits.items() if limit != NO_LIMITS}
        self._waiting_bytes = waiting_bytes
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        #: By source: the webhooks that may still come at once, and when that was so.
        self._allowed: dict[str, tuple[float, float]] = {}

    def enter(self, source: str, size: int, now_s: float) -> None:
        """Count a webhook of this size, until :meth:`leave`; ``now_s`` is of a monotonic clock.

        Raises ``TooManyWebhooks`` and ``BufferFull``; then nothing is counted. A source without
        any webhook waiting may have one of any size.
        """
        limits = self._limits.get(source, NO_LIMITS)
        most = limits.waiting_bytes or self._waiting_bytes
        with self._lock:
            waiting = self._waiting.get(source, 0)
            if waiting and waiting + size > most:
                raise BufferFull(
                    f"{waiting} bytes of this source wait for the store, and at most {most} may; "
                    "send the webhook again"
                )
            if limits.webhooks_per_second:
                self._spend(source, limits.webhooks_per_second, now_s)
            self._waiting[source] = waiting + size

    def _spend(self, source: str, rate: int, now_s: float) -> None:
        allowed, since = self._allowed.get(source, (float(rate), now_s))
        allowed = min(float(rate), allowed + (now_s - since) * rate)
        if allowed < 1:
            raise TooManyWebhooks(
                f"this source sends more than {rate} webhooks a second; send the webhook again"
            )
        self._allowed[source] = (allowed - 1, now_s)

    def leave(self, source: str, size: int) -> None:
        """Count a webhook no longer: it is stored, or was refused."""
        with self._lock:
            waiting = self._waiting.get(source, 0) - size
            if waiting > 0:
                self._waiting[source] = waiting
            else:
                self._waiting.pop(source, None)

    def waiting(self, source: str) -> int:
        """Return the bytes of a source that wait."""
        return self._waiting.get(source, 0)
