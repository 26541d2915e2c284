"""How long the console's pages take with few webhooks and with many, as ratios.

    .venv/bin/python loadtests/bench_console.py [--few 1000] [--many 1000000]

Each store is a folder of SQLite files whose webhooks are spread over a day. Each page is asked for
through the whole application, login and template included, by turns of both stores, so that
whatever else the machine does hits both; the median of 60 counts. First the searches run without
an index, then with one; its size and the time to make it are printed too.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.index_files import FOLDER
from portable_core.adapters.sqlite.search_index import SqliteSearchIndex
from portable_core.node import Node
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.settings import Settings
from portable_core.wiring import build_app

_TOKEN = "a-token-for-the-benchmark"
_DAY_MS = 86_400_000
_RUNS = 60
_HEADERS = {"content-type": "application/json", "user-agent": "GitHub-Hookshot/1"}
_EVENTS = ("push", "pull_request", "check_run", "issues", "star")

#: The event of one webhook in a thousand, and the one of the middle.
_RARE = "release"

#: ``{pair}`` and ``{key}`` are of the webhook in the middle; ``{number}`` is in its delivery id.
PAGES = {
    "newest page": "/webhooks",
    "page in the middle": "/webhooks?before={pair}",
    "one webhook, with its copies": "/webhooks/{pair}",
    "overview": "/",
    "value, not found": "/webhooks?value=nowhere",
}
SEARCHES = {
    "provider's id": "/webhooks?id=delivery-{number}",
    "provider's id, not found": "/webhooks?id=nowhere",
    "key": "/webhooks?key={key}",
    "frequent event": "/webhooks?event=push",
    "rare event": f"/webhooks?event={_RARE}",
    "event, not found": "/webhooks?event=nowhere",
    "event, source and slave": "/webhooks?event=push&source=github&slave=slave-1",
    "event and slave, not found": "/webhooks?event=push&slave=slave-2",
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
        event = _RARE if number % 1000 == count // 2 % 1000 else _EVENTS[number % len(_EVENTS)]
        names = {"x-github-event": event, "x-github-delivery": f"delivery-{number}"}
        meta = Meta("github", {**_HEADERS, **names}, key=f"{number:032x}")
        recovery = Recovery("slave-1" if event == "push" else "slave-2", start)
        batch.append(Record(pair, payload, meta, recovery if number % 10 < 2 else None))
        if number == count // 2:
            middle = batch[-1]
        if len(batch) == 5000 or number == count - 1:
            store.append(batch)
            batch = []
    store.close()
    assert middle is not None
    return middle


def open_console(folder: Path) -> tuple[Any, SqliteStore]:
    """A client that is logged in, and the store that it shows."""
    env = {"STORE": f"sqlite:{folder}", "SYNC_AUTH": "none", "CONSOLE_TOKEN": _TOKEN}
    node: list[Node] = []
    client = build_app(Settings.from_env("master", env), node.append).test_client()
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login").text)
    assert csrf is not None
    client.post("/login", data={"csrf": csrf[1], "token": _TOKEN})
    client.get("/")
    store = node[0].receiver.store
    assert isinstance(store, SqliteStore)
    return client, store


def measure(client: Any, path: str) -> float:
    """One page's time, in ms."""
    begun = time.perf_counter()
    answer = client.get(path, headers={"Accept": "text/html"}, follow_redirects=True)
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
        folders = [Path(name, str(count)) for count in counts]
        middles = [fill(folder, count) for folder, count in zip(folders, counts, strict=True)]
        with mock.patch.object(SqliteSearchIndex, "work", return_value=3600.0):
            clients, stores = zip(*map(open_console, folders), strict=True)
        values = [
            {
                "pair": f"{record.pair.timestamp}-{record.pair.hash}",
                "key": record.meta.key,
                "number": str(count // 2),
            }
            for record, count in zip(middles, counts, strict=True)
        ]
        compare("without an index", counts, clients, values, SEARCHES)
        for folder, store in zip(folders, stores, strict=True):
            begun = time.process_time()
            store.finish_index()
            taken = time.process_time() - begun
            size = sum(path.stat().st_size for path in (folder / FOLDER).glob("*"))
            data = sum(path.stat().st_size for path in folder.glob("*.*.sqlite3"))
            print(f"index: {taken:.1f} s of processor time, {size / 2**20:.1f} MiB ", end="")
            print(f"beside {data / 2**20:.1f} MiB of records")
        compare("with an index", counts, clients, values, {**SEARCHES, **PAGES})
        for store in stores:
            store.close()


def compare(
    title: str,
    counts: tuple[int, int],
    clients: Sequence[Any],
    values: Sequence[dict[str, str]],
    pages: dict[str, str],
) -> None:
    """Print a table of the medians."""
    print(f"{title:28}{counts[0]:>12,}{counts[1]:>12,}   ratio")
    for name, path in pages.items():
        times: list[list[float]] = [[], []]
        for _ in range(_RUNS):
            for index, client in enumerate(clients):
                times[index].append(measure(client, path.format_map(values[index])))
        few, many = map(statistics.median, times)
        print(f"{name:28}{few:>9.2f} ms{many:>9.2f} ms   {many / few:.2f}")


if __name__ == "__main__":
    main()
