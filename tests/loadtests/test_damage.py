"""Damage as the harness does it: what can come back has to, and only what is nowhere is excused."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs

from loadtests.fault_nodes import SPAN_S, FaultNodes
from loadtests.faults import CONTAINER, FIRESTORE, FUNCTION, MASTER, NODES
from loadtests.ledger import Ledger
from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery
from portable_core.settings import Role

BEGIN_MS = 1_700_000_000_000


@pytest.fixture
def nodes(tmp_path: Path) -> FaultNodes:
    """Four nodes that do not run: their stores are what is looked at."""
    nodes = FaultNodes(tmp_path)
    for name in NODES:
        (tmp_path / name).mkdir()
        env = {"STORE": f"sqlite:{tmp_path / name / 'store'}"}
        role: Role = "master" if name == MASTER else "slave"
        nodes.nodes[name] = NodeProcess(name, role, "container", env, tmp_path / f"{name}.log")
    return nodes


def make(number: int) -> Record:
    return Record(Pair(BEGIN_MS + number, number), b'{"n":%d}' % number, Meta("github"))


def open_store(nodes: FaultNodes, name: str) -> SqliteStore:
    store = SqliteStore(nodes.nodes[name].env["STORE"].partition(":")[2])
    store.open("crc32c")
    return store


def fill(nodes: FaultNodes, name: str, *numbers: int) -> None:
    store = open_store(nodes, name)
    store.append([make(number) for number in numbers])
    store.close()


def fill_and_die(nodes: FaultNodes, name: str, *numbers: int) -> None:
    """The same by a process that ends as one that is killed: its log stays beside the file."""
    path = nodes.nodes[name].env["STORE"].partition(":")[2]
    program = f"""
import os
from portable_core.adapters.sqlite import SqliteStore
from portable_core.records import Meta, Pair, Record
store = SqliteStore({path!r})
store.open("crc32c")
for n in {numbers}:
    store.append([Record(Pair({BEGIN_MS} + n, n), b'{{"n":%d}}' % n, Meta("github"))])
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_slaves_file_comes_back_and_nothing_is_excused(nodes: FaultNodes) -> None:
    fill_and_die(nodes, FUNCTION, 1, 2, 3)
    assert nodes.damage(FUNCTION) == "3 records unreadable"
    assert nodes.read(FUNCTION) == []
    store = open_store(nodes, FUNCTION)
    try:
        store.append([make(4)])
        generation = store.info().generation
        assert [record.pair.hash for record in store.records(0, MAX_INTEGER)] == [4]
        assert nodes.put_back(FUNCTION) == "put back"
        deadline = time.monotonic() + 60
        while store.info().generation == generation and time.monotonic() < deadline:
            store.status()  # looks at the folder now and then
        assert [record.pair.hash for record in store.records(0, MAX_INTEGER)] == [1, 2, 3, 4]
    finally:
        store.close()
    assert nodes.excuses == []
    assert nodes.put_back(FUNCTION) == "nothing to put back"


def test_only_what_is_nowhere_else_is_excused(nodes: FaultNodes) -> None:
    fill(nodes, MASTER, 1, 2, 3, 4)
    fill(nodes, CONTAINER, 2)
    fill(nodes, FIRESTORE, 9)
    fill(nodes, FUNCTION, 3)
    assert nodes.damage(FUNCTION) == "1 records unreadable"  # it can still be put back
    assert nodes.damage(MASTER) == "4 records unreadable"
    assert nodes.read(MASTER) == []
    (excuse,) = nodes.excuses
    assert {pair.hash for pair in excuse.pairs} == {1, 4}
    assert len(nodes.destroyed_presences) == 4
    assert all(presence.until_ms for presence in nodes.destroyed_presences)


def test_a_needless_copy_counts_although_it_was_destroyed(nodes: FaultNodes) -> None:
    own = make(1)
    at = own.pair.timestamp
    fetched = structs.replace(own, pair=Pair(at + 5, 1), recovery=Recovery(CONTAINER, at + 9000))
    store = open_store(nodes, MASTER)
    store.append([own, fetched])
    store.close()
    assert nodes.damage(MASTER) == "2 records unreadable"
    verdict = Ledger(SPAN_S * 1000).judge(nodes.read(MASTER), needless=nodes.needless)
    assert [held.pair for held in verdict.needless] == [fetched.pair]
    assert not verdict.holds


def test_a_node_without_files_has_nothing_to_damage(nodes: FaultNodes) -> None:
    assert nodes.damage(MASTER) == "no file yet"
