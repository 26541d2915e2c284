"""The port of a clock."""

from __future__ import annotations

from typing import Protocol

from portable_core.ports.values import Milliseconds


class Clock(Protocol):
    """The clocks of a machine: the date, and one that counts elapsed time."""

    def now(self) -> Milliseconds:
        """Return the date. It may jump in both directions at any time."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never decreases. For durations and deadlines.

        They count while the machine is suspended, where the platform has such a clock.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
