"""Real processes on Firestore: two that serve one slave, and a master that syncs with one."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.demo.cluster import trigger_sync
from portable_core.demo.processes import NodeProcess
from portable_core.records import MAX_INTEGER, Record
from portable_core.settings import Role
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator

TOKEN = secrets.token_urlsafe(16)


class Nodes:
    """``slaves`` are two processes on one database; ``master`` knows only the first of them."""

    def __init__(self, folder: Path) -> None:
        common = {
            "FIRESTORE_EMULATOR_HOST": use_emulator(),
            "SYNC_TOKENS": TOKEN,
            "SPAN_S": "2",
        }
        self.databases: dict[Role, str] = {"master": name_database(), "slave": name_database()}

        def make_node(name: str, role: Role, **env: str) -> NodeProcess:
            store = f"firestore:{PROJECT}/{self.databases[role]}"
            env = {**common, "STORE": store, **env}
            return NodeProcess(name, role, "container", env, folder / f"{name}.log")

        self.slaves = [make_node(f"slave-{number}", "slave") for number in (1, 2)]
        self.master = make_node("master", "master", SLAVES=f"shared={self.slaves[0].url}")

    @property
    def all(self) -> list[NodeProcess]:
        return [self.master, *self.slaves]

    def read(self, role: Role) -> list[Record]:
        store = FirestoreStore(PROJECT, self.databases[role], commit_timeout_ms=10_000)
        store.open("crc32c")
        try:
            return list(store.records(0, MAX_INTEGER))
        finally:
            store.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    try:
        for node in nodes.all:
            node.start()
        for node in nodes.all:
            node.wait_until_healthy()
        yield nodes
    finally:
        for node in nodes.all:
            node.kill()


def send(url: str, payload: bytes) -> None:
    request = urllib.request.Request(
        f"{url}/webhook/shop", payload, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def sync_until(master: NodeProcess, saved: int, within_s: float = 30) -> int:
    """Sync again and again until so many records were saved; returns how many were."""
    total, deadline = 0, time.monotonic() + within_s
    while total < saved and time.monotonic() < deadline:
        report = trigger_sync(master.url, TOKEN)
        assert report["ok"], json.dumps(report)
        total += report["slaves"][0]["saved"]
        time.sleep(0.2)
    return total


def test_a_sync_sees_what_both_processes_of_a_slave_received(nodes: Nodes) -> None:
    payloads = [b'{"number":%d}' % number for number in range(24)]
    for number, payload in enumerate(payloads):
        send(nodes.slaves[number % 2].url, payload)
    send(nodes.slaves[1].url, b'{"large":"%s"}' % (b"x" * 2_000_000))
    kept = nodes.read("slave")
    assert len(kept) == 25
    assert sync_until(nodes.master, 25) == 25
    got = nodes.read("master")
    assert [(r.pair, r.payload, r.meta) for r in got] == [(r.pair, r.payload, r.meta) for r in kept]
    assert {record.recovery.slave for record in got if record.recovery} == {"shared"}
    assert trigger_sync(nodes.master.url, TOKEN)["slaves"][0]["saved"] == 0
    assert {node.name: node.stop() for node in nodes.all} == {
        "master": 0,
        "slave-1": 0,
        "slave-2": 0,
    }
