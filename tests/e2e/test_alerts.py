"""The alerts in a real Prometheus that scrapes real nodes: one fires, and it clears."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess, find_free_port
from tests.support.missing import give_up
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Nodes,
    fill,
    make_record,
    now_ms,
    start,
    sync,
)

FOLDER = Path(__file__).parents[2] / "containers" / "monitoring"
PATIENCE_S = 60


@contextmanager
def run_prometheus(folder: Path, *nodes: NodeProcess) -> Iterator[str]:
    """Run Prometheus with the alerts, which wait for a second where they wait for minutes.

    Those of half an hour wait as they are: seconds of a disk that others fill predict nothing.
    """
    program = shutil.which("prometheus")
    if program is None:
        give_up("no Prometheus: run `apt-get install prometheus`")
    folder.mkdir()
    rules = re.sub(r"for: (?!30m)\d+m", "for: 1s", (FOLDER / "alerts.yml").read_text())
    (folder / "alerts.yml").write_text(rules)
    (folder / "token").write_text(TOKEN)
    targets = [f"127.0.0.1:{node.port}" for node in nodes]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": "webhook-sync",
                "authorization": {"credentials_file": "token"},
                "static_configs": [{"targets": targets}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{find_free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program),
                *("--config.file", "prometheus.yml", "--storage.tsdb.path", "data"),
                f"--web.listen-address={address}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def read_alerts(prometheus: str) -> set[tuple[str, str, str]]:
    """Return name, condition and subject of the alerts that fire."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{prometheus}/api/v1/alerts", timeout=10) as answer:
            document = json.load(answer)
    except OSError:  # it is starting
        return {("none yet", "", "")}
    return {
        (
            alert["labels"]["alertname"],
            alert["labels"].get("name", ""),
            alert["labels"].get("subject", ""),
        )
        for alert in document["data"]["alerts"]
        if alert["state"] == "firing"
    }


def wait_for(prometheus: str, holds: Callable[[set[tuple[str, str, str]]], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds(alerts := read_alerts(prometheus)):
        assert time.monotonic() < deadline, alerts
        time.sleep(0.3)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def test_a_dead_slave_is_an_alert_until_it_is_back(nodes: Nodes, tmp_path: Path) -> None:
    fill(nodes.folder / "alpha", [make_record(1, now_ms() - 60_000)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1", CONSOLE_LATE_S="3600")
    start(master)
    assert sync(master).status == 200
    failed = ("WebhookSyncCritical", "slave-failed", "alpha")
    down = ("WebhookSyncDown", "", "")
    with run_prometheus(tmp_path / "prometheus", slave, master) as prometheus:
        wait_for(prometheus, lambda alerts: alerts == set())
        slave.kill()
        assert sync(master).status == 502
        wait_for(prometheus, lambda alerts: alerts == {failed, down})
        start(slave)
        assert sync(master).status == 200
        wait_for(prometheus, lambda alerts: alerts == set())
