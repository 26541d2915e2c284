"""``make bench-age``: a master with one file an hour and no removal, after days and after years.

    .venv/bin/python -m loadtests.bench_age [--files 100,10000,50000] [--code FOLDER]

For each number of files a store is made, and a master is started twice: the first start reads the
state of an older version, the second one that of this version. ``--code`` measures the package in
that folder instead of the installed one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.aged_store import make_aged_store
from portable_core.demo.processes import NodeProcess

_ROOT = Path(__file__).parents[1]
_HOUR_S = 3600
_START_S = 600.0
_SENDERS = 16


@contextmanager
def _started(folder: Path, code: Path | None) -> Iterator[tuple[NodeProcess, float]]:
    """Run a master; yield its process and the seconds until it was healthy."""
    env = {"STORE": f"sqlite:{folder / 'store'}", "SYNC_AUTH": "none"}
    if code is not None:
        env["PYTHONPATH"] = str(code)
    node = NodeProcess("master", "master", "container", env, folder / "log")
    began = time.monotonic()
    node.start()
    try:
        node.wait_until_healthy(_START_S)
        yield node, time.monotonic() - began
    finally:
        node.stop()


def _measure(node: NodeProcess, path: str, count: int) -> list[float]:
    """Return the milliseconds of each of ``count`` requests over some seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    times = []
    for _ in range(count):
        time.sleep(0.05)
        began = time.perf_counter()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        times.append((time.perf_counter() - began) * 1000)
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}")
    connection.close()
    return sorted(times)


def _read_rss(node: NodeProcess) -> float:
    """Return the memory of the node's processes in MB."""
    pids = subprocess.run(
        ["pgrep", "-g", str(node.pid)], capture_output=True, text=True, check=True
    )
    pages = sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids.stdout.split()
    )
    return pages * 4096 / 1e6


def _receive(node: NodeProcess, seconds: float) -> float:
    """Return webhooks a second."""
    command = [sys.executable, str(_ROOT / "loadtests" / "generator.py"), str(node.port)]
    done = subprocess.run(
        [*command, "/webhook", str(_SENDERS), str(seconds)], check=True, capture_output=True
    )
    return float(json.loads(done.stdout)["rate"])


def run(files: int, seconds: float, code: Path | None) -> dict[str, float]:
    """Measure one store."""
    with tempfile.TemporaryDirectory(prefix="bench-age-") as name:
        folder = Path(name)
        make_aged_store(folder / "store", files, int(time.time()) // _HOUR_S - 1)
        with _started(folder, code) as (_, first_start):
            pass
        with _started(folder, code) as (node, start):
            health, status = _measure(node, "/health", 200), _measure(node, "/status", 60)
            return {
                "files": files,
                "first start s": first_start,
                "start s": start,
                "/health ms": statistics.median(health),
                "/health p99 ms": health[len(health) * 99 // 100],
                "/status ms": statistics.median(status),
                "/status worst ms": status[-1],
                "RSS MB": _read_rss(node),
                "webhooks/s": _receive(node, seconds),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", default="100,10000,50000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--code", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [run(int(files), options.seconds, options.code) for files in options.files.split(",")]
    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.{0 if value >= 100 else 2}f}" for value in row.values()))
    Console(width=140).print(table)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
