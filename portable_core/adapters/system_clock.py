"""The clocks of the machine."""

from __future__ import annotations

import time

#: Clocks that count elapsed time, the best first: they count while the machine is suspended, on
#: Linux the first one, on macOS the second.
_ELAPSED = ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC")


def _find_elapsed_clock() -> int | None:
    """Return the best of these clocks that the platform has, None if it has none."""
    for name in _ELAPSED:
        clock: int | None = getattr(time, name, None)
        if clock is not None:
            try:
                time.clock_gettime(clock)
            except OSError:
                continue
            return clock
    return None


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
