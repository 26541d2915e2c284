"""Locust as a user runs it, for seconds, against real nodes: its exit code, its reports."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


class Ended(NamedTuple):
    """A run of Locust: its exit code, its verdict, what it printed, where its files are."""

    code: int
    verdict: dict[str, Any]
    output: str
    folder: Path

    def read_rows(self) -> dict[str, dict[str, str]]:
        """Locust's statistics by name."""
        with (self.folder / "load_stats.csv").open() as file:
            return {row["Name"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """Several at once against one deployment: each judges what it sent itself."""
    folder = tmp_path_factory.mktemp("locust")
    empty = SqliteStore(str(folder / "empty"))
    empty.open("crc32c")
    empty.close()
    wrong = SECRETS.replace("github:load-secret", "github:wrong-secret")
    options = {
        "healthy": ("--left-out", "0.3", "--plots", "load"),
        "broken": (
            *("--master-store", f"sqlite:{folder / 'empty'}", "--secrets", wrong),
            *("--max-p99", "0.001", "--max-errors", "0.01"),
        ),
        "impossible": ("--master-node", "another"),
    }
    cluster = Cluster(folder, 1, {"SOURCES": SECRETS, "SPAN_S": str(SPAN_S)})
    started: dict[str, subprocess.Popen[str]] = {}
    try:
        cluster.start()
        for name, more in options.items():
            (folder / name).mkdir()
            started[name] = start_locust(cluster, folder / name, *more)
        yield {name: finish(process, folder / name) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
        cluster.stop()


def start_locust(cluster: Cluster, folder: Path, *more: str) -> subprocess.Popen[str]:
    """100 webhooks in two seconds."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")),
            *("--headless", "--only-summary", "-u", "20", "-r", "20"),
            *("--html", str(folder / "load.html"), "--csv", str(folder / "load")),
            *("--nodes", ",".join(f"{node.name}={node.url}" for node in cluster.nodes)),
            *("--span", str(SPAN_S), "--sync-every", "1"),
            *("--verdict", str(folder / "verdict.json")),
            *("--webhooks", "100", "--rate", "50", "--max-errors", "0.2"),
            *("--scenario", "mixed", "--secrets", SECRETS, *more),
        ],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "LOAD_SYNC_TOKEN": cluster.token},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], folder: Path) -> Ended:
    output, _ = process.communicate(timeout=100)
    file = folder / "verdict.json"
    verdict = json.loads(file.read_text()) if file.exists() else {}
    return Ended(process.returncode, verdict, output, folder)


def test_a_healthy_deployment_passes_and_is_reported(runs: dict[str, Ended]) -> None:
    run = runs["healthy"]
    verdict = run.verdict
    assert run.code == 0, run.output
    assert verdict["webhooks"] == 100
    assert (verdict["lost"], verdict["needless"], verdict["faults"]) == (0, 0, [])
    assert verdict["acknowledged"] > 50  # all of them, where the machine is not very busy
    assert verdict["recovered"] > 0
    rows = run.read_rows()
    for name, count in (
        ("acknowledged", verdict["acknowledged"]),
        ("refused", 100 - verdict["acknowledged"]),
        ("recovered", verdict["recovered"]),
        ("missing", 0),
    ):
        assert int(rows[name]["Request Count"]) == count
    assert "recovered" in (run.folder / "load.html").read_text()
    for plot in ("load-latency.png", "load-recovery.png"):
        assert (run.folder / plot).read_bytes().startswith(b"\x89PNG")


def test_a_broken_promise_and_a_threshold_are_failures(runs: dict[str, Ended]) -> None:
    """The judgement is given a store that lacks everything; a source's secret is wrong."""
    run = runs["broken"]
    assert run.code == 1, run.output
    assert run.verdict["lost"] > 0
    assert 0 < run.verdict["acknowledged"] < 100
    faults = "; ".join(run.verdict["faults"])
    for fault in ("a promise is broken", "p99 of master", "tries were not acknowledged"):
        assert fault in faults
    rows = run.read_rows()
    assert int(rows["missing"]["Failure Count"]) == run.verdict["lost"]
    assert int(rows["refused"]["Failure Count"]) > 0


def test_a_run_that_could_not_be_judged_does_not_begin(runs: dict[str, Ended]) -> None:
    run = runs["impossible"]
    assert run.code != 0
    assert "--master-node" in run.output
    assert not run.verdict
