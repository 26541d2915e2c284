"""The simulated hour loses nothing, and its verdict can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.simulate_hour import SPAN_MS, Hour
from portable_core.ports import Milliseconds
from portable_core.sync.slave_sync import SlaveSync


def test_a_short_simulated_hour_loses_nothing_and_can_tell() -> None:
    hour = Hour(1, 10, 1800, "crc32c")
    hour.run()
    verdict = hour.verdict()
    assert verdict["webhooks"] == 18_000
    assert (verdict["lost"], verdict["needless"]) == (0, 0)
    assert isinstance(verdict["recovered"], int)
    assert verdict["recovered"] > 500
    hour._copies[17] = 0
    hour._copies[18] = 2
    verdict = hour.verdict()
    assert (verdict["lost"], verdict["needless"]) == (1, 1)


def test_a_simulated_hour_shows_a_sync_that_does_not_end_a_span_before_the_horizon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync_windows = SlaveSync._sync_windows

    def sync_up_to_the_horizon(
        self: SlaveSync, now: Callable[[], Milliseconds], end: Milliseconds
    ) -> None:
        sync_windows(self, now, end + SPAN_MS)

    monkeypatch.setattr(SlaveSync, "_sync_windows", sync_up_to_the_horizon)
    hour = Hour(1, 10, 900, "crc32c")
    hour.run()
    needless = hour.verdict()["needless"]
    assert isinstance(needless, int)
    assert needless > 0
