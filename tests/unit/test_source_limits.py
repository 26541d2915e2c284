"""Limits of sources: one noisy sender does not refuse the others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from portable_core.errors import BufferFull, SettingsError, TooManyWebhooks
from portable_core.ingest.admission import Admission
from portable_core.settings import Settings
from portable_core.sources.limits import LimitGuard, SourceLimits


def test_bytes_that_wait_are_bounded_by_source() -> None:
    guard = LimitGuard({"small": SourceLimits(waiting_bytes=10)}, 100)
    guard.enter("noisy", 60, 0)
    guard.enter("noisy", 40, 0)
    with pytest.raises(BufferFull, match="100 bytes of this source wait"):
        guard.enter("noisy", 1, 0)
    guard.enter("other", 100, 0)
    guard.leave("noisy", 40)
    guard.enter("noisy", 40, 0)
    guard.enter("small", 10, 0)
    with pytest.raises(BufferFull, match="at most 10"):
        guard.enter("small", 1, 0)


def test_a_webhook_of_any_size_comes_in_where_nothing_waits() -> None:
    guard = LimitGuard({}, 10)
    guard.enter("s", 1000, 0)
    with pytest.raises(BufferFull):
        guard.enter("s", 1, 0)
    guard.leave("s", 1000)
    assert guard.waiting("s") == 0
    guard.enter("s", 1000, 0)


def test_webhooks_a_second_are_bounded_by_source() -> None:
    guard = LimitGuard({"s": SourceLimits(webhooks_per_second=10)}, 1000)

    def admitted(at_s: float, tries: int = 100) -> int:
        count = 0
        for _ in range(tries):
            try:
                guard.enter("s", 0, at_s)
                count += 1
            except TooManyWebhooks:
                pass
        return count

    assert admitted(5.0) == 10
    assert admitted(5.0) == 0
    assert admitted(5.25) == 2
    assert admitted(5.36) == 1
    assert admitted(60.0) == 10  # no more than a second's worth at once
    guard.enter("other", 0, 5.0)


def test_what_is_refused_is_not_counted() -> None:
    guard = LimitGuard({"s": SourceLimits(webhooks_per_second=1, waiting_bytes=10)}, 1000)
    guard.enter("s", 5, 0)
    with pytest.raises(TooManyWebhooks):
        guard.enter("s", 5, 0)
    assert guard.waiting("s") == 5
    with pytest.raises(BufferFull):
        guard.enter("s", 6, 1)
    guard.enter("s", 5, 1)  # the refusal before has spent nothing


def test_threads_count_right() -> None:
    guard = LimitGuard({}, 1 << 30)

    def run() -> None:
        for _ in range(2000):
            guard.enter("s", 3, 0)
            guard.leave("s", 3)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.waiting("s") == 0


def configure(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    env = {"SYNC_AUTH": "none", "SOURCES_FILE": str(path), "BUFFER_BYTES": "2000000"}
    return Settings.from_env("slave", env)


def test_limits_come_from_the_file_and_half_of_the_buffer(tmp_path: Path) -> None:
    text = "[s]\nlimits = { webhooks_per_second = 1, waiting_bytes = 10 }\n"
    limits = Admission(configure(tmp_path, text)).limits
    limits.enter("s", 10, 0)
    with pytest.raises(BufferFull):
        limits.enter("s", 1, 1)
    limits.enter("other", 1, 0)
    with pytest.raises(BufferFull, match="at most 1000000"):
        limits.enter("other", 1_000_000, 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("limits = { webhooks_per_second = 0 }", r"\[s\] limits\.webhooks_per_second: must be"),
        ("limits = { waiting_bytes = -1 }", r"\[s\] limits\.waiting_bytes: must be"),
        ("limits = { per_minute = 1 }", r"\[s\] limits\.per_minute: unknown"),
    ],
)
def test_wrong_limits_are_refused(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        configure(tmp_path, f"[s]\n{columns}")
