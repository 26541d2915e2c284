"""``make bench-stages``: where the microseconds of one webhook go, stage by stage, on one core.

Each stage is repeated alone, with what the stages before it have made. The figure is the lowest of
all rounds: other load on the machine only adds to it. The rest of a webhook's time is the kernel's:
reading, writing and waking up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.generator import make_bodies
from portable_core.adapters.edge.bridge import Bridge
from portable_core.adapters.edge.connection import Connection
from portable_core.adapters.edge.edge import Edge
from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.parser import RequestParser
from portable_core.adapters.edge.pool import Pool
from portable_core.adapters.edge.request import Request
from portable_core.adapters.edge.webhooks import WebhookHandler
from portable_core.adapters.logs import LogObserver
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.metrics import Metrics
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.records import Meta, Pair, Record, format_sort_key, pack_value
from portable_core.settings import Settings
from portable_core.sync.observer import Observers
from portable_core.wiring import build_node

#: What GitHub sends with a webhook.
_HEADERS = (
    b"Host: hooks.example\r\nUser-Agent: GitHub-Hookshot/2f4f6c5\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\n"
    b"X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n"
    b"X-GitHub-Hook-Installation-Target-ID: 79929171\r\n"
    b"X-GitHub-Hook-Installation-Target-Type: repository\r\nX-Forwarded-For: 140.82.115.1\r\n"
)
_BATCHES = (1, 16, 64, 256)


class _Sink(asyncio.Transport):
    """Drops what is written."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Heads:
    """Receives requests from a parser and drops them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def make_request(self) -> Request:
        return Request(self._connection)

    def receive_head(self, request: Request) -> None: ...

    def receive_data(self, request: Request, data: bytes) -> None: ...

    def receive_end(self, request: Request) -> None: ...


def _lowest(step: Callable[[int], object], count: int = 1, rounds: int = 40) -> float:
    """Return the lowest microseconds of ``step``, which is called with growing numbers."""
    best = float("inf")
    number = 0
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(count):
            step(number)
            number += 1
        best = min(best, (time.perf_counter() - begun) / count)
    return best * 1e6


@contextmanager
def _opened(node: Node) -> Iterator[Receiver]:
    node.receiver.open()
    try:
        yield node.receiver
    finally:
        node.close()


def _drop(self: MemoryStore, records: object, deadline: float | None = None) -> None:
    """Take the place of ``MemoryStore.append``."""


async def _measure_edge(rows: list[tuple[str, float]]) -> None:
    env = {"SYNC_TOKENS": "x" * 20, "STORE": "memory:", "ALLOW_EPHEMERAL": "1"}
    settings = Settings.from_env("slave", env)
    node = build_node(settings, Observers([LogObserver(), Metrics(settings)]))
    MemoryStore.append = _drop  # type: ignore[method-assign]  # nothing is kept
    with _opened(node) as receiver:
        receiver.commit_soon = lambda: None  # type: ignore[method-assign]  # commits are in turn
        pool = Pool(1)
        handler = WebhookHandler(node, Bridge(lambda environ, start: [], pool), pool)
        edge = Edge(handler, EdgeLimits(), settings.max_body_bytes)
        connection = Connection(edge)
        connection.connection_made(_Sink())
        bodies = make_bodies(5000)
        requests = [
            b"POST /webhook HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (_HEADERS, len(b), b)
            for b in bodies
        ]
        parser = RequestParser(_Heads(connection), edge.limits)
        rows.append(("parse the request", _lowest(lambda n: parser.feed(requests[n % 5000]), 100)))
        meta = Meta("", {"content-type": "application/json", "x-github-event": "push"})
        identify = receiver.identifier.identify
        rows.append(
            ("identity, hash and key", _lowest(lambda n: identify(bodies[n % 5000], meta), 100))
        )
        rows.append(("buffer, without a commit", _measure_buffer(receiver, bodies, meta)))
        for batch in (1, 64):
            whole = await _measure_whole(receiver, edge, requests, batch)
            rows.append((f"all of it but the store, {batch} at a time", whole))


def _measure_buffer(receiver: Receiver, bodies: list[bytes], meta: Meta) -> float:
    buffer = receiver.open()
    best = float("inf")
    for start in range(40):
        keyed = [Meta("", meta.headers, "", f"{start}-{n}") for n in range(100)]
        begun = time.perf_counter()
        for number, each in enumerate(keyed):
            buffer.submit(start * 100 + number, bodies[number], each)
        best = min(best, (time.perf_counter() - begun) / 100)
        buffer.flush()
    return best * 1e6


async def _measure_whole(
    receiver: Receiver, edge: Edge, requests: list[bytes], batch: int
) -> float:
    connections = [Connection(edge) for _ in range(batch)]
    for connection in connections:
        connection.connection_made(_Sink())
    best = float("inf")
    for start in range(2000 // batch):
        begun = time.perf_counter()
        for number, connection in enumerate(connections):
            connection.data_received(requests[(start * batch + number) % len(requests)])
        await asyncio.sleep(0)
        receiver.flush()
        while connections[-1].queue:
            await asyncio.sleep(0)
        best = min(best, (time.perf_counter() - begun) / batch)
    return best * 1e6


def _measure_store(rows: list[tuple[str, float]], folder: Path) -> None:
    bodies = make_bodies(5000)

    def make(number: int) -> Record:
        pair = Pair(1_700_000_000_000 + number // 3, number * 2_654_435_761 % 2**32)
        return Record(pair, bodies[number % 5000], Meta(key=f"{number:032x}"))

    records = [make(number) for number in range(1000)]
    pack = [lambda n: (format_sort_key(records[n % 1000].pair), pack_value(records[n % 1000]))]
    rows.append(("pack the record", _lowest(pack[0], 100)))
    store = SqliteStore(folder / "store")
    store.open("crc32c")
    number = 0
    for batch in _BATCHES:
        best = float("inf")
        for _ in range(100):
            some = [make(number + each) for each in range(batch)]
            number += batch
            begun = time.perf_counter()
            store.append(some, 10)
            best = min(best, (time.perf_counter() - begun) / batch)
        rows.append((f"append to SQLite and sync, {batch} at a time", best * 1e6))
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="the disk to measure")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[tuple[str, float]] = []
    asyncio.run(_measure_edge(rows))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        _measure_store(rows, Path(folder))
    table = Table(title="One webhook of 0.9 kB with GitHub's headers (lowest of all rounds)")
    table.add_column("stage")
    table.add_column("µs a webhook", justify="right")
    for stage, microseconds in rows:
        table.add_row(stage, f"{microseconds:,.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
