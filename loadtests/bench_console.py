"""How long the console's pages take with few webhooks and with many, as ratios.

    .venv/bin/python loadtests/bench_console.py [--few 1000] [--many 1000000]

Each store is a folder of SQLite files whose webhooks are spread over a day. Each page is asked for
through the whole application, login and template included, by turns of both stores, so that
whatever else the machine does hits both; the median of 60 counts.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from portable_core.adapters.sqlite import SqliteStore
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.wiring import build_app

_TOKEN = "a-token-for-the-benchmark"
_DAY_MS = 86_400_000
_RUNS = 60
_META = Meta("github", {"content-type": "application/json", "x-github-event": "push"})

PAGES = {
    "newest page": "/webhooks",
    "page in the middle": "/webhooks?before={}",
    "one webhook": "/webhooks/{}",
    "overview": "/",
    "value, not found": "/webhooks?value=nowhere",
    "key, not found": f"/webhooks?key={'f' * 32}",
}


def fill(folder: Path, count: int) -> Record:
    """A store with ``count`` webhooks of the last day; returns the one in the middle."""
    store = SqliteStore(str(folder))
    store.open("crc32c")
    start = time.time_ns() // 1_000_000 - _DAY_MS
    batch: list[Record] = []
    middle: Record | None = None
    for number in range(count):
        payload = b'{"action":"opened","number":%d,"repository":{"id":%d}}' % (number, number % 97)
        pair = Pair(start + number * (_DAY_MS - 10_000) // count, hash_payload(payload))
        batch.append(Record(pair, payload, replace(_META, key=f"{number:032x}")))
        if number == count // 2:
            middle = batch[-1]
        if len(batch) == 5000 or number == count - 1:
            store.append(batch)
            batch = []
    store.close()
    assert middle is not None
    return middle


def open_console(folder: Path) -> Any:
    """A client that is logged in."""
    env = {"STORE": f"sqlite:{folder}", "SYNC_AUTH": "none", "CONSOLE_TOKEN": _TOKEN}
    client = build_app(Settings.from_env("master", env)).test_client()
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login").text)
    assert csrf is not None
    client.post("/login", data={"csrf": csrf[1], "token": _TOKEN})
    return client


def measure(client: Any, path: str) -> float:
    """One page's time, in ms."""
    begun = time.perf_counter()
    answer = client.get(path, headers={"Accept": "text/html"})
    taken = (time.perf_counter() - begun) * 1000
    assert answer.status_code == 200, answer.text
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    arguments = parser.parse_args()
    counts = (arguments.few, arguments.many)
    with tempfile.TemporaryDirectory(prefix="bench-console-") as name:
        middles = [fill(Path(name, str(count)), count).pair for count in counts]
        clients = [open_console(Path(name, str(count))) for count in counts]
        ids = [f"{pair.timestamp}-{pair.hash}" for pair in middles]
        print(f"{'':28}{counts[0]:>12,}{counts[1]:>12,}   ratio")
        for title, path in PAGES.items():
            times: list[list[float]] = [[], []]
            for _ in range(_RUNS):
                for index, client in enumerate(clients):
                    times[index].append(measure(client, path.format(ids[index])))
            few, many = map(statistics.median, times)
            print(f"{title:28}{few:>9.2f} ms{many:>9.2f} ms   {many / few:.2f}")


if __name__ == "__main__":
    main()
