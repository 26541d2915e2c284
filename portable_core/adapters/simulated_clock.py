"""Clocks that move only when a simulation or a test moves them."""

from __future__ import annotations

import threading


class SimulatedClock:
    """The port ``Clock``. The date can change without the monotonic clock."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance both clocks by ``seconds``."""
        with self._lock:
            self._now += round(seconds * 1000)
            self._monotonic += seconds

    def set(self, now: int) -> None:
        """Set the date alone, as an operator who corrects a clock does."""
        with self._lock:
            self._now = now
