"""``make bench-crowd``: a crowd within two spans, synced to its end: time, memory, and losses.

The slave has all webhooks, and the master all but one in a hundred. Both are real processes on
SQLite. What the master has in the end is compared by the number in each payload, whatever its hash.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtests.bench_sync_nodes import (
    MISSING_EVERY,
    SPAN_MS,
    TOKEN,
    fill,
    read_cpu,
    read_most_mib,
)
from loadtests.machine import describe_machine
from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.cluster import trigger_sync
from portable_core.demo.processes import NodeProcess
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.parts import expect_collisions

_MOST_SYNCS = 50


def make_records(count: int, begin: int, *, whole: bool) -> Iterator[Record]:
    """Return ``count`` webhooks within two spans; without ``whole``, 99 of each 100."""
    for number in range(count):
        if whole or number % MISSING_EVERY:
            payload = b'{"number":%d}' % number
            timestamp = begin + number * 2 * SPAN_MS // count
            yield Record(Pair(timestamp, hash_payload(payload, "crc32c", b"")), payload)


def start_node(folder: Path, name: str, env: dict[str, str]) -> NodeProcess:
    settings = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{folder / name}", **env}
    role = "slave" if name == "slave" else "master"
    node = NodeProcess(name, role, "container", settings, folder / f"{name}.log")  # type: ignore[arg-type]  # one of the two
    node.start()
    node.wait_until_healthy()
    return node


def run_syncs(url: str) -> Iterator[dict[str, Any]]:
    """Sync until nothing is behind; yield the report of each sync."""
    for _ in range(_MOST_SYNCS):
        report = trigger_sync(url, TOKEN, timeout_s=600)["slaves"][0]
        yield report
        if report["behind_ms"] == 0:
            return


def count_lost(folder: Path, count: int) -> tuple[int, int]:
    """Return how many webhooks the master lacks, by their numbers, and how many it has twice."""
    store = SqliteStore(folder / "master", read_only=True)
    store.open("")
    held = [int(r.payload[10:-1]) for r in store.records(0, MAX_INTEGER)]
    store.close()
    return count - len(set(held)), len(held) - len(set(held))


def main() -> None:
    """Fill two stores, sync, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--webhooks", type=int, default=1_500_000, help="within two spans")
    options = parser.parse_args()
    begin, count = round(time.time() * 1000) - 3_600_000, options.webhooks
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "slave", make_records(count, begin, whole=True))
        fill(folder / "master", make_records(count, begin, whole=False))
        slave = start_node(folder, "slave", {})
        master = start_node(folder, "master", {"SLAVES": f"slave={slave.url}"})
        try:
            started = time.monotonic()
            for report in run_syncs(master.url):
                names = ("windows", "parts", "cut", "pairs_sent", "records_received", "saved")
                figures = ", ".join(f"{name} {report[name]:,}" for name in names)
                print(f"{report['seconds']:.1f} s: {figures}", report["error"] or report["warning"])
            print(
                f"seconds {time.monotonic() - started:.1f}, expected collisions in the sync ",
                end="",
            )
            print(report["expected_collisions"])
            for node in (slave, master):
                mib, cpu = read_most_mib(node.pid), read_cpu(node.pid)
                print(f"{node.name}: at most {mib:.0f} MiB, {cpu:.1f} processor seconds")
        finally:
            slave.kill()
            master.kill()
        lost, twice = count_lost(folder, count)
        pairs = expect_collisions(count, 2 * SPAN_MS, SPAN_MS, 2**32)
        print(f"lost {lost}, of which colliding hashes explain {2 * pairs / MISSING_EVERY:.1f}")
        print(f"stored twice {twice}")


if __name__ == "__main__":
    main()
