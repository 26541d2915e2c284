"""``make bench-forward``: webhooks a second from a master to a receiver, and memory.

A real master with a filled store, ``forward``, and a receiver that answers at once, each a process
of its own. Three loads: the receiver accepts everything; it fails one request in five; it is down
for a while, and then the backlog is drained.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.bench_sync_nodes import read_cpu, read_most_mib
from loadtests.machine import describe_machine
from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess, find_free_port
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record

_SOURCES = 100
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load. ``requests``: all of them; ``down_requests``: those while the receiver was down."""

    name: str
    concurrency: int
    webhooks: int
    seconds: float
    cpu: float
    mib: float
    requests: int
    down_requests: int = 0

    @property
    def rate(self) -> float:
        return self.webhooks / self.seconds


def fill(folder: Path, count: int) -> None:
    """Store webhooks of about 1 kB, of 100 sources in turn."""
    store = SqliteStore(str(folder))
    store.open("crc32c")
    begin = int(time.time() * 1000) - 600_000
    batch = []
    for number in range(count):
        payload = b'{"number":%d,"padding":"%b"}' % (number, b"x" * 950)
        pair = Pair(begin + number * 5, hash_payload(payload, "crc32c", b""))
        meta = Meta(f"s{number % _SOURCES}", {"x-github-event": "push"}, key=f"{number:032x}")
        batch.append(Record(pair, payload, meta))
        if len(batch) == 1000 or number == count - 1:
            store.append(batch)
            batch = []
    store.close()


@contextmanager
def serving(folder: Path) -> Iterator[NodeProcess]:
    env = {"STORE": f"sqlite:{folder / 'store'}", "SYNC_AUTH": "none"}
    node = NodeProcess("master", "master", "container", env, folder / "log")
    node.start()
    try:
        node.wait_until_healthy(60)
        yield node
    finally:
        node.stop()


@contextmanager
def receiving(port: int, failures: float) -> Iterator[None]:
    command = [sys.executable, "-m", "loadtests.bench_receiver", str(port), str(failures)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError):
                read_counts(port)
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def read_counts(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
        counts: dict[str, int] = json.load(response)
    return counts


@contextmanager
def forwarding(
    master: NodeProcess, port: int, folder: Path, concurrency: int, *options: str
) -> Iterator[tuple[int, Path]]:
    """Run ``forward``; yield its process id and its log."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        log = Path(state) / "log"
        command = [
            *(sys.executable, "-m", "portable_core", "forward", f"http://127.0.0.1:{port}/"),
            *("--master", master.url, "--state", f"{state}/state", "--json"),
            *("--concurrency", str(concurrency), *options),
        ]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file)
        try:
            yield process.pid, log
        finally:
            process.kill()
            process.wait()


def measure(
    master: NodeProcess, folder: Path, count: int, concurrency: int, failures: float
) -> Measurement:
    """Forward ``count`` webhooks."""
    port = find_free_port()
    with (
        receiving(port, failures),
        forwarding(master, port, folder, concurrency) as (pid, _),
    ):
        first = wait_for(port, 1)
        started = time.monotonic()
        cpu = read_cpu(pid)
        last = wait_for(port, count)
        seconds = time.monotonic() - started
        name = f"{failures:.0%} fail" if failures else "all accepted"
        requests = last["accepted"] + last["failed"]
        webhooks = count - first["accepted"]
        used = read_cpu(pid) - cpu
        return Measurement(name, concurrency, webhooks, seconds, used, read_most_mib(pid), requests)


def measure_outage(
    master: NodeProcess, folder: Path, count: int, concurrency: int, down_s: float
) -> Measurement:
    """Start with the receiver down; measure the time to drain the backlog after that."""
    port = find_free_port()
    with forwarding(master, port, folder, concurrency) as (pid, log):
        time.sleep(down_s)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        failed = sum(line["event"] == "retry" for line in lines)
        with receiving(port, 0.0):
            started = time.monotonic()
            last = wait_for(port, count)
            seconds = time.monotonic() - started
        return Measurement(
            f"down for {down_s:.0f} s",
            concurrency,
            count,
            seconds,
            read_cpu(pid),
            read_most_mib(pid),
            last["accepted"] + failed,
            failed,
        )


def wait_for(port: int, count: int) -> dict[str, int]:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        counts = read_counts(port)
        if counts["accepted"] >= count:
            return counts
        time.sleep(0.05)
    raise TimeoutError(f"the receiver has {counts} of {count} webhooks")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=10_000)
    parser.add_argument("--concurrency", default="1,8,64")
    parser.add_argument("--down", type=float, default=120.0, help="seconds of the outage")
    options = parser.parse_args()
    levels = [int(text) for text in options.concurrency.split(",")]
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "store", options.webhooks)
        with serving(folder) as master:
            for failures in (0.0, 0.2):
                for level in levels:
                    few = failures and level == 1
                    count = options.webhooks // 10 if few else options.webhooks
                    results.append(measure(master, folder, count, level, failures))
            results.append(
                measure_outage(master, folder, options.webhooks, levels[-1], options.down)
            )
    machine = describe_machine()
    title = f"forward, {machine['processor']}, load {machine['load average']}"
    table = Table(title=title, title_justify="left")
    for column in ("receiver", "concurrency", "webhooks/s", "CPU ms", "MiB", "requests", "down"):
        table.add_column(column, justify="right")
    for one in results:
        table.add_row(
            one.name,
            str(one.concurrency),
            f"{one.rate:,.0f}",
            f"{one.cpu / one.webhooks * 1000:.2f}",
            f"{one.mib:.0f}",
            f"{one.requests / one.webhooks:.2f}",
            str(one.down_requests),
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
