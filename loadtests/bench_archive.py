"""``make bench-archive``: archive a full day of a master, remove it, and import it again.

    .venv/bin/python -m loadtests.bench_archive [--webhooks 1000000]

The webhooks are spread evenly over a day. A registered consumer has got half of them at first, so
the first archive ends at its position, and the consumer then reads the rest from the master. A
second archive moves that rest. Everything is imported and archived once more, as one day. An error
is raised if the lines of the two archives differ, or if the consumer lacks a webhook.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from portable_core.adapters.archive_folder import ArchiveFolder
from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess
from portable_core.ingest.identifier import Identifier
from portable_core.records import Meta, Pair, Record
from portable_core.webhooks.arrivals import format_position

_DAY_MS = 86_400_000
_BATCH = 2_000
_PAYLOAD_BYTES = 900
_TOKEN = "benchmark"
_CONSUMER = "shop"

Row = dict[str, float]


def make_records(count: int, start: int) -> Iterator[Record]:
    """Yield different webhooks of about 1 kB with their hashes and keys, evenly over a day."""
    chance, identifier = random.Random(1), Identifier("crc32c", b"", {})
    words = [chance.randbytes(6).hex() for _ in range(2_000)]
    for number in range(count):
        text = " ".join(chance.choices(words, k=_PAYLOAD_BYTES // 13))
        meta = Meta(
            "github",
            {
                "content-type": "application/json",
                "x-github-event": "push",
                "x-github-delivery": f"{number:032x}",
            },
        )
        payload = b'{"number":%d,"text":"%b"}' % (number, text.encode())
        found = identifier.identify(payload, meta)
        yield Record(Pair(start + number * _DAY_MS // count, found.hash), payload, found.meta)


def fill(folder: Path, count: int, start: int) -> str:
    """Make a store; return the position of a consumer that has got half of it."""
    store = SqliteStore(folder, timeout_s=60)
    info = store.open("crc32c")
    batch: list[Record] = []
    for record in make_records(count, start):
        batch.append(record)
        if len(batch) == _BATCH:
            store.append(batch)
            batch = []
    store.append(batch)
    place = store.find_earlier(store.newest_arrival(), count - count // 2)
    store.close()
    return format_position(info.uuid, place)


class Bench:
    """One master, and the commands that run against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = {"SYNC_TOKENS": _TOKEN, "SPAN_S": "2", "STORE": f"sqlite:{folder / 'master'}"}
        self.master = NodeProcess("master", "master", "container", env, folder / "master.log")

    def run(self, *arguments: str, code: int = 0) -> Row:
        """Run a command; return its seconds, and the most memory of it and of the master."""
        self._reset_peak()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "portable_core", *arguments, "--master", self.master.url],
            env={"PATH": "/usr/bin", "SYNC_TOKENS": _TOKEN},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            raise RuntimeError(f"{arguments}: exit code {process.returncode} (expected {code})")
        return {
            "s": time.monotonic() - began,
            "command MB": usage.ru_maxrss / 1000,
            "master MB": self._read_peak(),
            "store MB": _measure(self.folder / "master"),
        }

    def archive(self, name: str, before: int, *, code: int = 0) -> Row:
        path = str(self.folder / name)
        row = self.run("archive", path, "--before", str(before), code=code)
        return {**row, "archive MB": _measure(self.folder / name)}

    def move_consumer(self, position: str) -> None:
        body = json.dumps({"position": position}).encode()
        with self._open(f"/consumers/{_CONSUMER}", "PUT", body) as response:
            response.read()

    def read_consumer(self) -> Row:
        """Read what the consumer has not got; return the number of webhooks and the seconds."""
        self._reset_peak()
        began, lines = time.monotonic(), 0
        with self._open(f"/feed?consumer={_CONSUMER}") as response:
            while chunk := response.read(2**20):
                lines += chunk.count(b"\n")
        took = time.monotonic() - began
        return {"s": took, "webhooks": lines - 1, "master MB": self._read_peak()}

    def _open(self, path: str, method: str = "GET", body: bytes | None = None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.master.url + path, body, headers, method=method)
        response: HTTPResponse = urllib.request.urlopen(request, timeout=60)
        return response

    def _reset_peak(self) -> None:
        Path(f"/proc/{self.master.pid}/clear_refs").write_text("5")

    def _read_peak(self) -> float:
        for line in Path(f"/proc/{self.master.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError("the kernel reports no peak of memory")


def _measure(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6


def digest_lines(folder: Path) -> tuple[int, str]:
    """Return the number of lines of an archive, and their digest."""
    archive, digest, count = ArchiveFolder(folder), hashlib.sha256(), 0
    for stretch in archive.require_manifest().stretches:
        for _, line in archive.read(stretch):
            digest.update(line)
            count += 1
    return count, digest.hexdigest()


def run(folder: Path, count: int) -> dict[str, Row]:
    """Measure each step. Raise ``RuntimeError`` if something is lost or differs."""
    start = int(time.time() * 1000) // _DAY_MS * _DAY_MS - 2 * _DAY_MS
    end = start + _DAY_MS
    began = time.monotonic()
    position = fill(folder / "master", count, start)
    rows: dict[str, Row] = {
        "fill the store": {
            "s": time.monotonic() - began,
            "webhooks": count,
            "store MB": _measure(folder / "master"),
        }
    }
    bench = Bench(folder)
    bench.master.start()
    try:
        bench.master.wait_until_healthy()
        bench.move_consumer(position)
        rows["archive up to the consumer"] = bench.archive("parts", end, code=1)
        row = rows["consumer reads on"] = bench.read_consumer()
        if row["webhooks"] != count - count // 2:
            raise RuntimeError(f"the consumer got {row['webhooks']:.0f} webhooks of its half")
        bench.move_consumer("now")
        rows["archive the rest"] = bench.archive("parts", end)
        rows["import"] = bench.run("import", str(folder / "parts"))
        rows["import again"] = bench.run("import", str(folder / "parts"))
        rows["archive the day"] = bench.archive("day", end)
    finally:
        bench.master.kill()
    lines = [digest_lines(folder / name) for name in ("parts", "day")]
    if lines[0] != lines[1] or lines[0][0] != count:
        raise RuntimeError(f"the archives differ: {lines}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-archive-") as name:
        rows = run(Path(name), options.webhooks)
    names = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table("", *names)
    for step, row in rows.items():
        table.add_row(step, *(f"{row[name]:,.1f}" if name in row else "" for name in names))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
