"""The clocks of the machine."""

from __future__ import annotations

import time


def _find_elapsed_clock() -> int | None:
    """Return the clock that counts while the machine is suspended, where the platform has it."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return None
    try:
        time.clock_gettime(clock)
    except OSError:
        return None
    return clock


_ELAPSED_CLOCK = _find_elapsed_clock()


class SystemClock:
    """The port ``Clock`` on the standard library."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        if _ELAPSED_CLOCK is None:
            return time.monotonic()
        return time.clock_gettime(_ELAPSED_CLOCK)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
