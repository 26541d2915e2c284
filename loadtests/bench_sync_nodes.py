"""The two nodes of a measured sync: their stores, their processes, and the time these use.

The slave runs as its container runs it, on the first core. The master is a child on the last one:
``python -m loadtests.bench_sync_nodes master|first-missing …`` prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess
from portable_core.epochs import Stint
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import KeepWaiting, SlaveInfo, SyncRequest, wait_on
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.wire.negotiation import ENCODINGS
from portable_core.wiring import build_node

SPACING_MS = 10
MISSING_EVERY = 100
FIRST_MISSING = 50
SPAN_MS = 120_000
TOKEN = "bench"

_TICKS = os.sysconf("SC_CLK_TCK")


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
    """Store the pairs, which are all that a sync reads; the payloads differ from the slave's."""
    records = (make_record(n, begin) for n in range(count) if n % MISSING_EVERY != FIRST_MISSING)
    fill(folder, (structs.replace(record, payload=b"{}") for record in records))


# -- the master's process --------------------------------------------------------------------------


class OneEncodingClient(HttpSlaveClient):
    """A client that reports only one of the slave's encodings."""

    media_type = ""

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        return structs.replace(
            super().describe(keep_waiting, stint, clock), encodings=(self.media_type,)
        )


def make_client(url: str, media_type: str) -> OneEncodingClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = OneEncodingClient("slave", url, credentials=lambda: headers, idle_s=60)
    client.media_type = media_type
    return client


def run_master(folder: str, url: str, media_type: str) -> None:
    """Sync once, and print the report, the seconds and the memory."""
    env = {
        "STORE": f"sqlite:{folder}",
        "SYNC_TOKENS": TOKEN,
        "SLAVES": f"slave={url}",
        "SYNC_BUDGET_S": "3600",
        "SYNC_SLAVE_S": "3600",
    }
    node = build_node(Settings.from_env("master", env))
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
    """Request everything at once; print the milliseconds to the first missing record."""
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
            [sys.executable, "-m", "loadtests.bench_sync_nodes", mode, *map(str, arguments)],
            stdout=subprocess.PIPE,
            check=True,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# -- the slave's process ---------------------------------------------------------------------------


@contextmanager
def pinned(index: int) -> Iterator[None]:
    """Run the processes that the block starts on one core, the first or the last."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def find_processes(pid: int) -> list[Path]:
    """Return the folders of a process and its descendants."""
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
    """Return the most memory of the largest process, which is the worker."""
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


if __name__ == "__main__":
    if sys.argv[1] == "master":
        run_master(*sys.argv[2:])
    else:
        run_first_missing(*sys.argv[2:])
