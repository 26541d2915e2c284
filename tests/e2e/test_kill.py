"""What was acknowledged is there after any stop: SIGKILL, SIGTERM, a rolling restart."""

from __future__ import annotations

import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind
from tests.support.nodes.senders import make_slave, read_health, read_numbers, sending


@pytest.mark.parametrize(
    ("kills", "senders"),
    [
        (8, 16),
        pytest.param(100, 256, marks=[pytest.mark.deep, pytest.mark.timeout(1800)]),
    ],
)
def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path: Path, kills: int, senders: int) -> None:
    chance = random.Random(1)
    acknowledged: set[int] = set()
    for _ in range(kills):
        slave = make_slave(tmp_path)
        slave.start()
        try:
            slave.wait_until_healthy()
            first = max(acknowledged, default=-1) + 1000
            port = partial(getattr, slave, "port")
            with sending(port, threads=senders, first=first) as results:
                time.sleep(chance.uniform(0.05, 0.5))
                slave.kill()
        finally:
            slave.kill()
        acknowledged |= results.timestamps.keys()
    lost = acknowledged - set(read_numbers(tmp_path))
    print(f"{kills} kills, {len(acknowledged)} acknowledged, {len(lost)} of them not stored")
    assert len(acknowledged) > kills
    assert not lost


@pytest.mark.parametrize("kind", ["container", "function"])
@pytest.mark.parametrize("ack", ["committed", "buffered"])
def test_nothing_acknowledged_is_lost_by_sigterm(tmp_path: Path, kind: Kind, ack: str) -> None:
    slave = make_slave(tmp_path, kind=kind, ACK=ack)
    slave.start()
    try:
        slave.wait_until_healthy()
        with sending(lambda: slave.port) as results:
            time.sleep(0.5)
            begun = time.monotonic()
            code = slave.stop()
            took = time.monotonic() - begun
        assert code == 0, slave.read_log_end()
        assert took < 10
    finally:
        slave.kill()
    numbers = read_numbers(tmp_path)
    assert results.timestamps
    assert not results.timestamps.keys() - set(numbers)
    assert all(count == 1 for count in Counter(numbers).values())


def test_buffered_loses_at_most_what_came_after_the_last_flush(tmp_path: Path) -> None:
    slave = make_slave(tmp_path, ACK="buffered", FLUSH_INTERVAL_S="0.5", SPAN_S="10")
    slave.start()
    try:
        slave.wait_until_healthy()
        with sending(lambda: slave.port) as results:
            time.sleep(2)
            slave.kill()
            killed = time.monotonic()
    finally:
        slave.kill()
    lost = results.timestamps.keys() - set(read_numbers(tmp_path))
    oldest = max((killed - results.acknowledged_at[number] for number in lost), default=0.0)
    count = len(results.timestamps)
    print(f"{count} acknowledged, {len(lost)} lost, the oldest {oldest:.2f} s old")
    assert len(lost) < count
    assert oldest < 0.5 + 2.5  # the interval, and as long as a commit may take (COMMIT_TIMEOUT_S)


def test_a_rolling_restart_keeps_every_webhook_once_and_in_order(tmp_path: Path) -> None:
    old, new = make_slave(tmp_path, "old"), make_slave(tmp_path, "new")
    current = old
    old.start()
    try:
        old.wait_until_healthy()
        with sending(lambda: current.port, threads=32, limit=10_000) as results:
            new.start()
            while (waiting := read_health(new.url)) is None:
                time.sleep(0.05)
            assert waiting["status"] == 503
            assert "is being written by process" in str(waiting["detail"])
            current = new
            assert old.stop() == 0, old.read_log_end()
            new.wait_until_healthy()
        assert len(results.timestamps) == 10_000
        assert new.stop() == 0, new.read_log_end()
    finally:
        old.kill()
        new.kill()
    numbers = read_numbers(tmp_path)
    assert len(numbers) == 10_000
    assert set(numbers) == set(range(10_000))
    stamps = [results.timestamps[number] for number in numbers]
    assert stamps == sorted(stamps)
