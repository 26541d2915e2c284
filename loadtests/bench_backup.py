"""``make bench-backup``: back up the store of a master that receives, and restore it.

    .venv/bin/python -m loadtests.bench_backup [--megabytes 1000] [--rounds 3]

Each round measures webhooks a second before a backup, during one of the whole store, and during the
one after it, which copies what has changed. The last backup is restored: a master on it has to sync
a slave, and ``webhook-sync verify`` has to find nothing missing.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess
from portable_core.records import Meta, Pair, Record

_ROOT = Path(__file__).parents[1]
_HOUR_MS = 3_600_000
_BATCH = 2_000
_PAYLOAD_BYTES = 900
_HOURS = 24
_SENDERS = 16
_SPAN_S = "2"
_TOKEN = "benchmark"


def fill(folder: Path, megabytes: int) -> None:
    """Make a store of a day that ended an hour ago."""
    chance = random.Random(1)
    texts = [chance.randbytes(_PAYLOAD_BYTES // 2).hex() for _ in range(_BATCH)]
    batches = max(megabytes * 1_000_000 // (_PAYLOAD_BYTES * _BATCH), _HOURS)
    start = int(time.time() * 1000) // _HOUR_MS * _HOUR_MS - (_HOURS + 1) * _HOUR_MS
    store = SqliteStore(folder, timeout_s=60)
    store.open("crc32c")
    for batch in range(batches):
        first = start + batch * _HOURS // batches * _HOUR_MS + batch * _BATCH % _HOUR_MS
        store.append(
            [
                Record(
                    Pair(first + n, n), b'{"batch":%d,"text":"%b"}' % (batch, text.encode()), Meta()
                )
                for n, text in enumerate(texts)
            ]
        )
    store.close()


def _command(*arguments: str | Path, **env: str) -> tuple[float, str]:
    """Run a command of this project; return its seconds and its output."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "portable_core", *map(str, arguments)],
        env={"PATH": "/usr/bin", "SYNC_TOKENS": _TOKEN, **env},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
    return time.monotonic() - began, done.stdout


class _Rate:
    """Webhooks that a node has received since this was made."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._count, self._since = self._read(), time.monotonic()

    def _read(self) -> float:
        request = urllib.request.Request(
            f"{self._node.url}/metrics", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read().decode()
        found = re.findall(r'^webhook_sync_webhooks_total\{.*outcome="kept".*\} (\S+)$', text, re.M)
        return sum(map(float, found))

    def measure(self) -> float:
        return (self._read() - self._count) / (time.monotonic() - self._since)


def _measure_round(master: NodeProcess, backup: Path, seconds: float) -> dict[str, float]:
    store = master.env["STORE"]
    rate = _Rate(master)
    time.sleep(seconds)
    row = {"before /s": rate.measure()}
    for name in ("whole", "again"):
        rate = _Rate(master)
        took, output = _command("backup", "--json", backup, STORE=store)
        report = json.loads(output)
        row |= {
            f"{name} s": took,
            f"{name} MB": report["copied_bytes"] / 1e6,
            f"{name} /s": rate.measure(),
        }
    rate = _Rate(master)
    time.sleep(seconds)
    return {**row, "after /s": rate.measure()}


def _make_nodes(folder: Path) -> tuple[NodeProcess, NodeProcess]:
    settings = {"SYNC_TOKENS": _TOKEN, "SPAN_S": _SPAN_S}
    env = {**settings, "STORE": f"sqlite:{folder / 'slave'}"}
    slave = NodeProcess("slave", "slave", "container", env, folder / "slave.log")
    env = {**settings, "STORE": f"sqlite:{folder / 'master'}", "SLAVES": f"a={slave.url}"}
    master = NodeProcess("master", "master", "container", env, folder / "master.log")
    return slave, master


def _send(node: NodeProcess, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(_ROOT / "loadtests" / "generator.py"), str(node.port)]
    return subprocess.Popen(
        [*command, "/webhook", str(_SENDERS), str(seconds)], stdout=subprocess.DEVNULL
    )


def run(folder: Path, megabytes: int, rounds: int, seconds: float) -> list[dict[str, float]]:
    """Measure; raise ``RuntimeError`` if the restored master lacks something."""
    fill(folder / "master", megabytes)
    slave, master = _make_nodes(folder)
    rows = []
    try:
        for node in (slave, master):
            node.start()
            node.wait_until_healthy()
        _send(slave, 2.0).wait()
        sender = _send(master, 3600)
        time.sleep(3)
        try:
            for _ in range(rounds):
                shutil.rmtree(folder / "backup", ignore_errors=True)
                rows.append(_measure_round(master, folder / "backup", seconds))
        finally:
            sender.kill()
            sender.wait()
        master.kill()
        shutil.rmtree(folder / "master")
        took, _ = _command("restore", folder / "backup", folder / "master")
        began = time.monotonic()
        master.start()
        master.wait_until_healthy(120)
        rows[-1] |= {"restore s": took, "start s": time.monotonic() - began}
        time.sleep(2 * float(_SPAN_S))
        _command("sync", MASTER_URL=master.url)
        rows[-1]["verify s"], _ = _command("verify", "--slave", "a", MASTER_URL=master.url)
    finally:
        for node in (slave, master):
            node.kill()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-backup-") as name:
        rows = run(Path(name), options.megabytes, options.rounds, options.seconds)
    names = list(rows[-1])
    table = Table("", "median", "all")
    for name in names:
        values = [row[name] for row in rows if name in row]
        table.add_row(
            name, f"{statistics.median(values):,.1f}", "  ".join(f"{v:,.1f}" for v in values)
        )
    Console(width=100).print(table)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
