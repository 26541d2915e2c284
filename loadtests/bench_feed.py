"""``make bench-feed``: from a sender's 200 to a waiting consumer of the arrival feed.

Webhooks are sent at a fixed rate to a master on SQLite. A consumer in a process of its own requests
the feed again and again, with ``wait``. The delay of a webhook is the time from its 200 to the line
with it; it is negative where the line comes before the 200. Both clocks are the machine's monotonic
one.

``--firestore`` measures a master on the Firestore emulator instead, whose delays are not those of
the service. ``--by-time`` measures the list by time in the same way, on a master that syncs one
slave every minute, with the default span. Its consumer requests the list every half second.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console
from rich.table import Table

from portable_core.demo.emulator import HOST_VARIABLE, FirestoreEmulator
from portable_core.demo.processes import NodeProcess
from portable_core.settings import Role

_RATES = (10, 100, 1000)
_SENDERS = 64
_PADDING = "x" * 800


def consume(url: str, token: str, count: int, pipe: Connection) -> None:
    """Read ``count`` webhooks; send the time of each by its number."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=90)
    headers = {"Authorization": f"Bearer {token}"}
    position, got = "now", dict[int, float]()

    def request(wait: int) -> None:
        nonlocal position
        connection.request("GET", f"/feed?after={position}&wait={wait}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        for line in iter(response.readline, b""):
            at = time.monotonic()
            document = json.loads(line)
            position = document["position"]
            if "data" in document:
                got[document["data"]["n"]] = at

    request(0)
    pipe.send("ready")
    while len(got) < count:
        request(30)
    pipe.send(got)


def consume_by_time(url: str, token: str, count: int, pipe: Connection) -> None:
    """Read ``count`` webhooks of the list by time; send the time of each by its number."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=90)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    since, got = str(time.time_ns() // 1_000_000), dict[int, float]()
    pipe.send("ready")
    while len(got) < count:
        connection.request("GET", f"/webhooks?since={since}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        for line in iter(response.readline, b""):
            document = json.loads(line)
            if "end" in document:
                since = document["since"]
            elif "n" in document["data"]:
                got[document["data"]["n"]] = time.monotonic()
        time.sleep(0.5)
    pipe.send(got)


async def send(url: str, rate: int, count: int) -> dict[int, float]:
    """Send webhooks at a fixed rate; return the time of each response by its number."""
    done: dict[int, float] = {}
    slots = asyncio.Semaphore(_SENDERS)
    connector = aiohttp.TCPConnector(limit=_SENDERS)
    async with aiohttp.ClientSession(url, connector=connector) as session:

        async def post(number: int) -> None:
            body = json.dumps({"n": number, "padding": _PADDING}).encode()
            async with slots, session.post("/webhook", data=body, headers=_JSON) as response:
                await response.read()
                response.raise_for_status()
                done[number] = time.monotonic()

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(started + number / rate - time.monotonic(), 0))
                group.create_task(post(number))
    return done


_JSON = {"Content-Type": "application/json"}


Consume = Callable[[str, str, int, Connection], None]


def measure(
    url: str, token: str, rate: int, seconds: float, consume: Consume = consume, patience: int = 60
) -> list[float]:
    """Return the delays in ms, sorted."""
    count = max(int(rate * seconds), 20)
    ours, theirs = multiprocessing.Pipe()
    consumer = multiprocessing.Process(target=consume, args=(url, token, count, theirs))
    consumer.start()
    try:
        if not ours.poll(30):
            raise RuntimeError("the consumer does not start")
        ours.recv()
        sent = asyncio.run(send(url, rate, count))
        if not ours.poll(patience):
            raise RuntimeError(f"the consumer has not got every webhook within {patience} s")
        got: dict[int, float] = ours.recv()
    finally:
        consumer.kill()
    return sorted((got[number] - at) * 1000 for number, at in sent.items())


def start(folder: Path, role: Role, **env: str) -> NodeProcess:
    env = {"STORE": f"sqlite:{folder}/{role}", **env}
    node = NodeProcess(role, role, "container", env, folder / f"{role}.log")
    node.start()
    node.wait_until_healthy()
    return node


def measure_by_time(folder: Path, token: str) -> list[float]:
    """Return the delays of the list by time in ms, sorted. It takes some five minutes."""
    slave = start(folder, "slave", SYNC_TOKENS=token)
    try:
        env = {"SYNC_TOKENS": token, "SLAVES": f"slave={slave.url}", "SYNC_EVERY_S": "60"}
        master = start(folder, "master", **env)
        try:
            return measure(master.url, token, 10, 120, consume_by_time, 300)
        finally:
            master.kill()
    finally:
        slave.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument("--rates", default=",".join(map(str, _RATES)), help="webhooks a second")
    parser.add_argument("--firestore", action="store_true", help="use the Firestore emulator")
    parser.add_argument("--by-time", action="store_true", help="measure the list by time, too")
    arguments = parser.parse_args()
    token = secrets.token_hex(16)
    table = Table("feed", "webhooks a second", "webhooks", "p50 ms", "p99 ms", "most ms")

    def add(feed: str, rate: int, delays: list[float]) -> None:
        at = [delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1]]
        table.add_row(feed, str(rate), str(len(delays)), *(f"{delay:.1f}" for delay in at))

    with tempfile.TemporaryDirectory(prefix="bench-feed-", dir=Path.cwd()) as name:
        folder = Path(name, "arrival")
        folder.mkdir()
        emulator = FirestoreEmulator()
        env = {"SYNC_TOKENS": token, "SLAVES": ""}
        if arguments.firestore:
            env |= {HOST_VARIABLE: emulator.start(), "STORE": f"firestore:bench/{Path(name).name}"}
        master = start(folder, "master", **env)
        try:
            measure(master.url, token, 50, 2)
            for rate in map(int, arguments.rates.split(",")):
                add("arrival", rate, measure(master.url, token, rate, arguments.seconds))
        finally:
            master.kill()
            emulator.stop()
        if arguments.by_time:
            add("by time", 10, measure_by_time(Path(name), token))
    Console().print(table)


if __name__ == "__main__":
    main()
