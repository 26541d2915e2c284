"""Locust as a user runs it, for seconds, against real nodes: its exit code, its reports."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.cluster import Cluster

ROOT = Path(__file__).parents[2]
SECRETS = (
    "github=github:load-secret,stripe=stripe:whsec_load,"
    "standard=standard:whsec_bG9hZC10ZXN0LXNlY3JldC1vZi0yNC1ieXRlcw==,"
    "other=hmac-sha256@X-Other-Signature:load-secret"
)

#: Short, because a run waits for one in its end.
SPAN_S = 3

pytestmark = pytest.mark.xdist_group("locust")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path_factory.mktemp("nodes"), 1, {"SOURCES": SECRETS, "SPAN_S": str(SPAN_S)}
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def run_locust(cluster: Cluster, folder: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, verdict and output of 100 webhooks in two seconds."""
    verdict = folder / "verdict.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")),
            *("--headless", "--only-summary", "-u", "20", "-r", "20"),
            *("--html", str(folder / "load.html"), "--csv", str(folder / "load")),
            *("--nodes", ",".join(f"{node.name}={node.url}" for node in cluster.nodes)),
            *("--span", str(SPAN_S), "--sync-every", "1", "--verdict", str(verdict)),
            *("--webhooks", "100", "--rate", "50", "--max-errors", "0.2"),
            *("--scenario", "mixed", "--secrets", SECRETS, *more),
        ],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "LOAD_SYNC_TOKEN": cluster.token},
        capture_output=True,
        text=True,
        timeout=100,
    )
    document = json.loads(verdict.read_text()) if verdict.exists() else {}
    return done.returncode, document, done.stdout + done.stderr


def read_rows(folder: Path) -> dict[str, dict[str, str]]:
    """Locust's statistics by name."""
    with (folder / "load_stats.csv").open() as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


def test_a_healthy_deployment_passes_and_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    code, verdict, output = run_locust(cluster, tmp_path, "--left-out", "0.3", "--plots", "load")
    assert code == 0, output
    assert verdict["webhooks"] == 100
    assert (verdict["lost"], verdict["needless"], verdict["faults"]) == (0, 0, [])
    assert verdict["acknowledged"] > 50  # all of them, where the machine is not very busy
    assert verdict["recovered"] > 0
    rows = read_rows(tmp_path)
    for name, count in (
        ("acknowledged", verdict["acknowledged"]),
        ("refused", 100 - verdict["acknowledged"]),
        ("recovered", verdict["recovered"]),
        ("missing", 0),
    ):
        assert int(rows[name]["Request Count"]) == count
    html = (tmp_path / "load.html").read_text()
    assert "recovered" in html
    for plot in ("load-latency.png", "load-recovery.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


def test_a_broken_promise_and_a_threshold_are_failures(cluster: Cluster, tmp_path: Path) -> None:
    """The judgement is given a store that lacks everything; a source's secret is wrong."""
    empty = SqliteStore(str(tmp_path / "empty"))
    empty.open("crc32c")
    empty.close()
    wrong = SECRETS.replace("github:load-secret", "github:wrong-secret")
    code, verdict, output = run_locust(
        *(cluster, tmp_path, "--master-store", f"sqlite:{tmp_path / 'empty'}"),
        *("--secrets", wrong, "--max-p99", "0.001", "--max-errors", "0.01"),
    )
    assert code == 1, output
    assert verdict["lost"] > 0
    assert 0 < verdict["acknowledged"] < 100
    faults = "; ".join(verdict["faults"])
    for fault in ("a promise is broken", "p99 of master", "tries were not acknowledged"):
        assert fault in faults
    rows = read_rows(tmp_path)
    assert int(rows["missing"]["Failure Count"]) == verdict["lost"]
    assert int(rows["refused"]["Failure Count"]) > 0


def test_a_run_that_could_not_be_judged_does_not_begin(cluster: Cluster, tmp_path: Path) -> None:
    code, verdict, output = run_locust(cluster, tmp_path, "--master-node", "another")
    assert code != 0
    assert "--master-node" in output
    assert not verdict
