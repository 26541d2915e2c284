"""Real nodes for tests of the sync: how they are made, filled, asked and read back."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.cluster import read_records
from portable_core.demo.processes import Kind, NodeProcess
from portable_core.epochs import NotedLoss
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import SlaveState
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Role

TOKEN = "a-token-for-tests"
SPAN_MS = 120_000

T = TypeVar("T")


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]


class Nodes:
    """A context that leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context until the end of this one."""
        return self._stack.enter_context(context)

    def make_slave(self, name: str = "slave", kind: Kind = "container", **env: str) -> NodeProcess:
        """A slave, not started; on a folder of its own unless ``env`` says otherwise."""
        return self._make(name, "slave", kind, env)

    def make_master(
        self, slaves: Mapping[str, str], kind: Kind = "container", name: str = "master", **env: str
    ) -> NodeProcess:
        """A master of these slaves, by name their addresses."""
        listed = ",".join(f"{name}={url}" for name, url in slaves.items())
        return self._make(name, "master", kind, {"SLAVES": listed, **env})

    def _make(self, name: str, role: Role, kind: Kind, env: Mapping[str, str]) -> NodeProcess:
        settings = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{self.folder / name}", **env}
        node = NodeProcess(name, role, kind, settings, self.folder / f"{name}.log")
        self._stack.callback(node.kill)
        return node

    def read(self, node: NodeProcess) -> list[Record]:
        """The records in a node's folder."""
        return read_records({"STORE": node.env["STORE"]})

    def read_quarantine(self, node: NodeProcess) -> list[Record]:
        with open_store(self.folder / node.name) as store:
            return [item.record for item in store.quarantine()]


def start(*nodes: NodeProcess) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_healthy()


def make_record(number: int, timestamp: int, size: int = 0) -> Record:
    """A record whose payload no other number has; ``size`` bytes of padding."""
    payload = b'{"number":%d,"padding":"%b"}' % (number, b"x" * size)
    return Record(
        Pair(timestamp, hash_payload(payload, "crc32c", b"")),
        payload,
        Meta("source", {"x-github-delivery": str(number)}),
    )


def now_ms() -> int:
    return int(time.time() * 1000)


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[SqliteStore]:
    """A node's store; the node must not run."""
    store = SqliteStore(str(folder))
    store.open("crc32c")
    try:
        yield store
    finally:
        store.close()


def fill(folder: Path, records: Iterable[Record]) -> list[Record]:
    """Put records into the folder of a node that does not run."""
    given = list(records)
    with open_store(folder) as store:
        for begin in range(0, len(given), 1000):
            store.append(given[begin : begin + 1000])
    return given


def put_loss(node: NodeProcess) -> None:
    """Let the store of a master, which does not run, have the loss 1f of the slave alpha."""
    loss = NotedLoss("1f", "file", "it is damaged", 1, 2, reported=False)
    with open_store(Path(node.env["STORE"].removeprefix("sqlite:"))) as store:
        lease = store.acquire_lease("test", 0, 1)
        store.save_slave(lease, "alpha", SlaveState(losses=(loss,)))
        store.release_lease(lease)


def put_removed(node: NodeProcess) -> None:
    """Let the store of a master, which does not run, know the slave gone."""
    with open_store(Path(node.env["STORE"].removeprefix("sqlite:"))) as store:
        lease = store.acquire_lease("test", 0, 1)
        store.save_slave(lease, "gone", SlaveState(cursor=1))
        store.release_lease(lease)


def ask(node: NodeProcess, method: str, path: str, timeout_s: float = 60) -> Answer:
    """Ask a node something that needs the token."""
    request = urllib.request.Request(
        node.url + path, method=method, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return Answer(answer.status, json.load(answer))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.load(error))


def sync(node: NodeProcess, query: str = "") -> Answer:
    return ask(node, "POST", f"/trigger-sync{query}")


def post(node: NodeProcess, numbers: Iterable[int], size: int = 0) -> dict[int, bytes]:
    """Send webhooks one after the other; returns the payloads that were acknowledged."""
    acknowledged = {}
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    for number in numbers:
        payload = make_record(number, 0, size).payload
        headers = {"Content-Type": "application/json", "X-GitHub-Delivery": str(number)}
        connection.request("POST", "/webhook/source", payload, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            acknowledged[number] = payload
    connection.close()
    return acknowledged


def count_needless(records: Iterable[Record], span: int = SPAN_MS) -> int:
    """Records whose payload another one represents. (The tests send no payload twice.)"""
    last: dict[bytes, int] = {}
    needless = 0
    for record in sorted(records, key=lambda record: record.pair):
        before = last.get(record.payload, -1 - span)
        needless += record.pair.timestamp - before <= span
        last[record.payload] = record.pair.timestamp
    return needless
