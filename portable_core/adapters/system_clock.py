"""The clocks of the machine."""

from __future__ import annotations

import time


class SystemClock:
    """The port ``Clock`` on the standard library."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
