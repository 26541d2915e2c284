"""``make bench-sync``: how fast a slave is checked, the bytes on the wire, and the memory it takes.

A real slave, as its container runs it, on one core, and a real master in a process of its own on
another. The slave holds records of about 1 kB, 10 ms apart, so that one span holds 12,000 of them;
the master lacks one in a hundred. A size is measured in both encodings, each time with processes
that have just been started.

"Checked" are the slave's records: each was compared with the master's pairs, and is either
represented there or was sent. Others use the machine too, so that beside the seconds that passed
there are the processor's own: what one core to itself would make of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.machine import describe_machine
from portable_core.adapters.http_client import HttpSlaveClient
from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.wiring import build_node
from portable_core.canonical import hash_payload
from portable_core.demo.processes import NodeProcess
from portable_core.ports import KeepWaiting, SlaveInfo, SyncRequest, wait_on
from portable_core.records import Meta, Pair, Record
from portable_core.wire import ENCODINGS

SIZES = (10_000, 100_000, 1_000_000)
SPACING_MS = 10
MISSING_EVERY = 100
FIRST_MISSING = 50
SPAN_MS = 120_000
TOKEN = "bench"

TARGET_RATE = 150_000
TARGET_FROM = 100_000
TARGET_GROWTH_MIB = 32

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Result:
    """One sync. Processor seconds and MiB (at most) by process; bytes as the report has them."""

    records: int
    media_type: str
    seconds: float
    slave_cpu: float
    master_cpu: float
    slave_mib: float
    master_mib: float
    bytes_sent: int
    bytes_received: int
    windows: int
    first_missing_ms: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def slave_rate(self) -> float:
        """Of the slave with a core to itself."""
        return self.records / self.slave_cpu


# -- the stores ------------------------------------------------------------------------------------


def make_record(number: int, begin: int) -> Record:
    payload = b'{"id":%d,"text":"%b"}' % (number, b"webhook " * 120)
    return Record(
        Pair(begin + number * SPACING_MS, hash_payload(payload, "crc32c", b"")),
        payload,
        Meta("bench", {"content-type": "application/json"}),
    )


def fill(folder: Path, records: Iterator[Record]) -> None:
    store = SqliteStore(str(folder))
    store.open("crc32c")
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == 5000:
            store.append(batch)
            batch = []
    if batch:
        store.append(batch)
    store.close()


def fill_slave(folder: Path, count: int, begin: int) -> None:
    fill(folder, (make_record(number, begin) for number in range(count)))


def fill_master(folder: Path, count: int, begin: int) -> None:
    """Only what a sync reads of it: the pairs. Their payloads are not the slave's."""
    records = (make_record(n, begin) for n in range(count) if n % MISSING_EVERY != FIRST_MISSING)
    fill(folder, (replace(record, payload=b"{}") for record in records))


# -- the master's process --------------------------------------------------------------------------


class OneEncodingClient(HttpSlaveClient):
    """To a slave that speaks, it seems, only one encoding."""

    media_type = ""

    def describe(self, keep_waiting: KeepWaiting = wait_on) -> SlaveInfo:
        return replace(super().describe(keep_waiting), encodings=(self.media_type,))


def make_client(url: str, media_type: str) -> OneEncodingClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = OneEncodingClient("slave", url, authorize=lambda: headers, idle_s=60)
    client.media_type = media_type
    return client


def run_master(folder: str, url: str, media_type: str) -> None:
    """Sync once, and print what it took."""
    env = {
        "STORE": f"sqlite:{folder}",
        "SYNC_TOKENS": TOKEN,
        "SLAVES": f"slave={url}",
        "SYNC_BUDGET_S": "3600",
        "SYNC_SLAVE_S": "3600",
    }
    node = build_node("master", env)
    assert node.master is not None
    node.master.clients["slave"] = make_client(url, media_type)
    node.receiver.open()
    before = time.process_time()
    report = node.master.sync()
    cpu = time.process_time() - before
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    node.close()
    print(json.dumps({**report.slaves[0].to_json(), "cpu": cpu, "mib": mib}))


def run_first_missing(folder: str, url: str, media_type: str, begin: str, end: str) -> None:
    """Ask for everything in one request; print the milliseconds to the first missing record."""
    store = SqliteStore(folder, read_only=True)
    store.open("crc32c")
    pairs = store.pairs(int(begin) - SPAN_MS, int(end) + SPAN_MS)
    body = ENCODINGS[media_type].encode_pairs(pairs)
    reader = ENCODINGS[media_type].read_records()
    request = SyncRequest(int(begin), int(end), SPAN_MS, "crc32c", media_type, body)
    client = make_client(url, media_type)
    client.describe()  # imports and threads are not what is measured
    started = time.monotonic()
    with client.exchange(request) as answer:
        for chunk in answer.chunks:
            if reader.feed(chunk):
                break
    print(json.dumps({"first_ms": (time.monotonic() - started) * 1000}))
    client.close()
    store.close()


def run_child(mode: str, *arguments: object) -> dict[str, Any]:
    with pinned(-1):
        done = subprocess.run(
            [sys.executable, "-m", "loadtests.bench_sync", mode, *map(str, arguments)],
            stdout=subprocess.PIPE,
            check=True,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# -- the slave's process ---------------------------------------------------------------------------


@contextmanager
def pinned(index: int) -> Iterator[None]:
    """What is started meanwhile runs on one core, the first or the last."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def find_processes(pid: int) -> list[Path]:
    """A process and its descendants."""
    found = [Path(f"/proc/{pid}")]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += find_processes(int(folder.name))
    return found


def read_cpu(pid: int) -> float:
    total = 0
    for folder in find_processes(pid):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def read_most_mib(pid: int) -> float:
    """Of the largest of its processes: the worker."""
    return max(
        int(line.split()[1]) / 1024
        for folder in find_processes(pid)
        for line in (folder / "status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )


@contextmanager
def serving(folder: Path) -> Iterator[NodeProcess]:
    env = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{folder}"}
    slave = NodeProcess("slave", "slave", "container", env, folder.with_suffix(".log"))
    with pinned(0):
        slave.start()
    try:
        slave.wait_until_healthy()
        yield slave
    finally:
        slave.stop()


def measure(place: Path, count: int, media_type: str, begin: int) -> Result:
    end = begin + count * SPACING_MS
    master = place / f"master-{count}-{ENCODING_NAMES[media_type]}"
    fill_master(master, count, begin)
    with serving(place / f"slave-{count}") as slave:
        before = read_cpu(slave.pid)
        report = run_child("master", master, slave.url, media_type)
        slave_cpu = read_cpu(slave.pid) - before
        slave_mib = read_most_mib(slave.pid)
        assert not report["error"], report
        assert report["behind_ms"] == 0, report
        assert report["saved"] == count // MISSING_EVERY, report
        shutil.rmtree(master)
        fill_master(master, count, begin)
        first = run_child("first-missing", master, slave.url, media_type, begin, end)
    shutil.rmtree(master)
    return Result(
        records=count,
        media_type=media_type,
        seconds=report["seconds"],
        slave_cpu=slave_cpu,
        master_cpu=report["cpu"],
        slave_mib=slave_mib,
        master_mib=report["mib"],
        bytes_sent=report["bytes_sent"],
        bytes_received=report["bytes_received"],
        windows=report["windows"],
        first_missing_ms=first["first_ms"],
    )


# -- the table -------------------------------------------------------------------------------------

ENCODING_NAMES: Mapping[str, str] = {
    "application/json": "json",
    "application/vnd.msgpack": "msgpack",
}


def show(console: Console, results: list[Result]) -> None:
    table = Table(title="One sync, 1 % missing", title_justify="left")
    for column in (
        *("records", "encoding", "windows", "seconds", "checked/s", "slave CPU s", "checked/CPU s"),
        *("master CPU s", "MB sent", "MB received", "slave MiB", "master MiB", "first missing ms"),
    ):
        table.add_column(column, justify="left" if column == "encoding" else "right")
    for result in results:
        table.add_row(
            f"{result.records:,}",
            ENCODING_NAMES[result.media_type],
            str(result.windows),
            f"{result.seconds:.2f}",
            f"{result.rate:,.0f}",
            f"{result.slave_cpu:.2f}",
            f"{result.slave_rate:,.0f}",
            f"{result.master_cpu:.2f}",
            f"{result.bytes_sent / 1e6:.1f}",
            f"{result.bytes_received / 1e6:.1f}",
            f"{result.slave_mib:.0f}",
            f"{result.master_mib:.0f}",
            f"{result.first_missing_ms:.0f}",
        )
    console.print(table)


def judge(results: list[Result]) -> dict[str, bool]:
    """The targets that these results are enough to judge."""
    verdicts: dict[str, bool] = {}
    for media_type, name in ENCODING_NAMES.items():
        mine = [result for result in results if result.media_type == media_type]
        small, large = mine[0], mine[-1]
        if name == "msgpack":
            for result in mine:
                if result.records >= TARGET_FROM:
                    text = f"{name}, {result.records:,}: {TARGET_RATE:,} records a second or more"
                    verdicts[text] = result.slave_rate >= TARGET_RATE
        if small.records < large.records:
            growth = max(large.slave_mib - small.slave_mib, large.master_mib - small.master_mib)
            text = f"{name}: memory grows by {growth:.0f} MiB, less than {TARGET_GROWTH_MIB}"
            verdicts[text] = growth < TARGET_GROWTH_MIB
    return verdicts


def main() -> int:
    if sys.argv[1:2] == ["master"]:
        run_master(*sys.argv[2:])
        return 0
    if sys.argv[1:2] == ["first-missing"]:
        run_first_missing(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description="Measure a sync.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="RECORDS")
    parser.add_argument("--folder", help="where the stores go; a temporary folder by default")
    options = parser.parse_args()
    console = Console(width=160)
    console.print(describe_machine())
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        for count in sorted(options.sizes):
            begin = int(time.time() * 1000) - 2 * SPAN_MS - count * SPACING_MS
            fill_slave(place / f"slave-{count}", count, begin)
            for media_type, name in ENCODING_NAMES.items():
                console.print(f"· {count:,} records, {name}")
                results.append(measure(place, count, media_type, begin))
            shutil.rmtree(place / f"slave-{count}")
    show(console, results)
    verdicts = judge(results)
    for text, holds in verdicts.items():
        console.print(f"{'✓' if holds else '✗'} {text}", highlight=False)
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
