"""A master that syncs by itself, as processes: with ``SYNC_EVERY_S`` and with the option."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def wait_for_line(node: NodeProcess, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in node.log.read_text():
        assert time.monotonic() < deadline, node.read_log_end()
        time.sleep(0.05)


def test_a_master_recovers_without_a_scheduler_and_stops_at_once(nodes: Nodes) -> None:
    fill(nodes.folder / "alpha", [make_record(1, now_ms() - 60_000)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1", SYNC_EVERY_S="0.3")
    start(master)
    wait_for_line(master, "Slave unreachable")
    start(slave)
    wait_for_line(master, "slave alpha: 1 webhooks recovered")
    began = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - began < 5


def test_the_option_counts_before_the_setting_and_only_for_a_master() -> None:
    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "portable_core", "serve", *arguments, "--check"],
            capture_output=True,
            text=True,
            timeout=60,
            env={"STORE": "memory:", "SYNC_TOKENS": "t", "SYNC_EVERY_S": "60"},
        )

    assert check("--role", "master", "--sync-every", "30").returncode == 0
    wrong = check("--role", "master", "--sync-every", "0.01")
    assert (wrong.returncode, wrong.stdout) == (
        1,
        "SYNC_EVERY_S: must be at least 0.1 (got 0.01)\n",
    )
    assert check("--role", "slave", "--sync-every", "30").returncode == 2
