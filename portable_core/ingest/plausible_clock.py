"""The date that a node relies on: the reading of its clock, unless that is implausible.

A clock that counts elapsed time shows how far the date can have advanced. So a wrong reading of the
date has no effect that outlives it: no timestamp, horizon or lease lies in the future afterwards.
"""

from __future__ import annotations

import logging
import threading
from typing import NamedTuple

from portable_core.ports import Clock, Milliseconds

logger = logging.getLogger(__name__)

#: How fast the expected date follows plausible readings, in milliseconds a millisecond. Many small
#: steps ahead so never add up to a large one.
_FOLLOW = 0.25

#: Readings this close to the expected date need no further look, in milliseconds.
_CLOSE_MS = 1.0


class ClockDeviation(NamedTuple):
    """A reading that is not used: its lead in milliseconds, and the date when it began."""

    ahead_ms: Milliseconds
    since: Milliseconds


def find_limit(span_ms: Milliseconds) -> Milliseconds:
    """Return how far ahead of the expected date a reading, or a timestamp, may lie."""
    return span_ms // 4


class PlausibleClock:
    """The port ``Clock`` around another clock. Safe to use from any number of threads.

    A reading more than a quarter of the span ahead of the expected date is not used; the expected
    date is. The expected date moves there once the readings have been ahead by about as much for
    longer than a span, or a peer confirms them. A step back is used at once; readings close to the
    date before it remain plausible for a span. The first reading has nothing to be compared with.
    """

    def __init__(self, clock: Clock, span_ms: Milliseconds) -> None:
        self._clock = clock
        self._limit = find_limit(span_ms)
        self._patience = span_ms
        self._close = min(_CLOSE_MS, self._limit)
        self._lock = threading.Lock()
        #: The expected date less the elapsed time, in milliseconds; None before the first reading.
        self._expected: float | None = None
        self._followed_at = 0.0
        #: Where the readings are instead, since when, and how many milliseconds the first differed.
        self._other: float | None = None
        #: The expected date since a step back, less the elapsed time, until the step has lasted.
        self._back: float | None = None
        self._other_since = 0.0
        self._other_ahead = 0

    def now(self) -> Milliseconds:
        """Return the date that this node relies on."""
        elapsed = self._clock.monotonic() * 1000
        reading = self._clock.now()
        expected = self._expected
        if (
            expected is not None
            and self._other is None
            and self._back is None
            and -self._close <= reading - elapsed - expected <= self._close
        ):
            return reading
        with self._lock:
            return self._judge(reading, elapsed)

    def read(self) -> Milliseconds:
        """Return the clock's own reading, for comparisons with other nodes."""
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    def find_deviation(self) -> ClockDeviation | None:
        """Return what is wrong with the clock at this moment, None if its readings are used."""
        date = self.now()
        with self._lock:
            if self._other is None or self._expected is None or self._other <= self._expected:
                return None
            lasted = self._clock.monotonic() * 1000 - self._other_since
            return ClockDeviation(round(self._other - self._expected), round(date - lasted))

    def confirm(self, peer: Milliseconds) -> None:
        """Use the clock's readings from now on if the clock of a peer agrees with them.

        A peer alone moves no date: the reading is this node's own.
        """
        if self._other is None:
            return
        with self._lock:
            elapsed = self._clock.monotonic() * 1000
            reading = self._clock.now()
            if self._other is not None and abs(reading - peer) <= self._limit:
                self._accept(reading - elapsed, elapsed, "a peer's clock confirms it")

    def _judge(self, reading: Milliseconds, elapsed: float) -> Milliseconds:
        """Return the date for a reading. The caller holds the lock."""
        found = reading - elapsed
        if self._expected is None:
            self._expected, self._followed_at = found, elapsed
            return reading
        ahead = found - self._expected
        if abs(ahead) <= self._limit:
            self._follow(ahead, elapsed)
            return reading
        if self._other is None or abs(found - self._other) > self._limit:
            self._begin_deviation(found, ahead, elapsed)
        elif elapsed - self._other_since > self._patience:
            self._accept(found, elapsed, f"it has lasted {self._patience / 1000:g} s")
            return reading
        if ahead < 0:
            self._back = found
            return reading
        return round((self._expected if self._back is None else self._back) + elapsed)

    def _follow(self, ahead: float, elapsed: float) -> None:
        assert self._expected is not None  # noqa: S101 -- for the type checker
        most = max(0.0, elapsed - self._followed_at) * _FOLLOW
        self._expected += max(-most, min(most, ahead))
        self._followed_at = max(self._followed_at, elapsed)
        self._back = None
        if self._other is not None:
            self._other = None
            logger.info("clock: its readings are plausible again")

    def _begin_deviation(self, found: float, ahead: float, elapsed: float) -> None:
        self._other, self._other_since, self._other_ahead = found, elapsed, round(ahead)
        if ahead > 0:
            logger.warning(
                "clock: its reading is %d ms ahead of the expected date, which is used until the "
                "reading has lasted %g s or a peer confirms it. Check this machine's clock.",
                ahead,
                self._patience / 1000,
            )
        else:
            logger.warning(
                "clock: its reading went back by %d ms; timestamps wait for it to catch up. "
                "Check this machine's clock.",
                -ahead,
            )

    def _accept(self, found: float, elapsed: float, reason: str) -> None:
        """Make the readings the expected date."""
        logger.warning("clock: the step of %+d ms is used: %s", self._other_ahead, reason)
        self._expected, self._followed_at = found, elapsed
        self._other = self._back = None
