"""Takes away, one after the other, what a platform may lack (docs/portability.md)."""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.proxy import Plan, Proxy
from portable_core.demo.processes import Kind, NodeProcess
from portable_core.settings import Settings
from portable_core.wiring import build_node
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Nodes,
    count_needless,
    fill,
    make_record,
    now_ms,
    post,
    start,
    sync,
)

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
KINDS: list[Kind] = ["container", "function"]
IN_MEMORY = {"STORE": "memory:", "NODE_NAME": "alpha", "K_SERVICE": "alpha"}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def sync_until_whole(nodes: Nodes, master: NodeProcess, wanted: set[bytes], most: int) -> int:
    """Sync until the master has all payloads; returns how many syncs that took."""
    for count in range(1, most + 1):
        sync(master)
        records = nodes.read(master)
        if {record.payload for record in records} == wanted:
            assert count_needless(records) == 0
            return count
    raise AssertionError(f"not everything is there after {most} syncs")


@contextlib.contextmanager
def frozen_between_requests(node: NodeProcess) -> Iterator[None]:
    """Let the node have the processor while the block runs, and not a moment longer."""
    os.killpg(node.pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(node.pid, signal.SIGSTOP)


# -- streaming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_without_streaming(nodes: Nodes, kind: Kind) -> None:
    """A proxy passes requests and answers on only as wholes."""
    begin = now_ms() - HOUR_MS
    records = fill(nodes.folder / "slave", (make_record(n, begin + n, 200) for n in range(2000)))
    fill(nodes.folder / "master", records[::2])
    slave = nodes.make_slave(kind=kind)
    with Proxy(slave.port, lambda line: Plan(hold=True)) as proxy:
        master = nodes.make_master({"alpha": proxy.url})
        start(slave, master)
        assert sync_until_whole(nodes, master, {record.payload for record in records}, 1) == 1


def test_without_long_answers(nodes: Nodes) -> None:
    """Every answer is cut after 20 kB, as functions cut theirs after 10 MB."""
    begin = now_ms() - HOUR_MS
    records = fill(nodes.folder / "slave", (make_record(n, begin + n, 900) for n in range(200)))
    slave = nodes.make_slave()
    with Proxy(slave.port, lambda line: Plan(cut_answer=20_000)) as proxy:
        master = nodes.make_master({"alpha": proxy.url})
        start(slave, master)
        syncs = sync_until_whole(nodes, master, {record.payload for record in records}, 30)
        assert syncs > 1 or proxy.cuts > 5
        assert proxy.cuts


def test_without_large_requests(nodes: Nodes) -> None:
    """Every request is cut after 4 kB: the windows become small enough."""
    begin = now_ms() - HOUR_MS
    records = [make_record(n, begin + 1500 * n) for n in range(2000)]
    fill(nodes.folder / "slave", records[::40])
    fill(nodes.folder / "master", records[1::40] + records[2::2])
    slave = nodes.make_slave(SPAN_S="10")
    with Proxy(slave.port, lambda line: Plan(cut_request=4_000)) as proxy:
        master = nodes.make_master({"alpha": proxy.url}, SPAN_S="10")
        start(slave, master)
        wanted = {record.payload for record in [*records[::40], *nodes.read(master)]}
        sync_until_whole(nodes, master, wanted, 30)
        assert proxy.cuts


# -- the processor ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_processor_between_requests(nodes: Nodes, kind: Kind) -> None:
    """The node is stopped the moment that each answer is there, and in the end killed."""
    begin = now_ms() - HOUR_MS
    old = fill(nodes.folder / "slave", (make_record(n, begin + n) for n in range(100, 150)))
    slave = nodes.make_slave(kind=kind)
    master = nodes.make_master({"alpha": slave.url})
    start(slave, master)
    payloads: dict[int, bytes] = {}
    for number in range(20):
        with frozen_between_requests(slave):
            payloads |= post(slave, [number])
    assert len(payloads) == 20
    with frozen_between_requests(slave):
        sync_until_whole(nodes, master, {record.payload for record in old}, 1)
    slave.kill()
    kept = {record.payload for record in [*old, *nodes.read(slave)]}
    assert kept == {record.payload for record in old} | set(payloads.values())


def test_without_a_processor_between_requests_buffered_webhooks_are_at_risk(nodes: Nodes) -> None:
    """What ``ACK=buffered`` promises less, seen."""
    slave = nodes.make_slave(ACK="buffered", FLUSH_INTERVAL_S="1")
    start(slave)
    with frozen_between_requests(slave):
        payloads = post(slave, range(20))
    assert len(payloads) == 20
    slave.kill()
    slave.start()
    slave.wait_until_healthy()
    assert len(nodes.read(slave)) < 20


# -- the disk, the signal --------------------------------------------------------------------------


def test_without_a_disk(nodes: Nodes) -> None:
    """A slave in memory hands over, and without a place to hand over to it does not start."""
    master = nodes.make_master({})
    slave = nodes.make_slave("slave", "container", **IN_MEMORY, HAND_OVER=master.url)
    start(master, slave)
    payloads = post(slave, range(30))
    assert slave.stop() == 0
    assert {record.payload for record in nodes.read(master)} == set(payloads.values())

    done = subprocess.run(
        [Path(sys.executable).with_name("webhook-sync"), "serve", "--role", "slave"],
        env={**os.environ, **IN_MEMORY, "SYNC_TOKENS": TOKEN, "PORT": str(slave.port)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert "STORE: the records in memory: are lost when an instance" in done.stderr


def test_without_a_signal_before_the_end(nodes: Nodes) -> None:
    """SIGKILL: a disk keeps everything; of two slaves in memory the other one has it."""
    on_disk = nodes.make_slave("on-disk")
    one = nodes.make_slave("one", STORE="memory:", ALLOW_EPHEMERAL="1", SPAN_S="2")
    two = nodes.make_slave("two", STORE="memory:", ALLOW_EPHEMERAL="1", SPAN_S="2")
    master = nodes.make_master({"one": one.url, "two": two.url}, SPAN_S="2")
    start(on_disk, one, two, master)
    payloads = post(on_disk, range(20))
    for slave in (one, two):
        assert post(slave, range(20)) == payloads
    on_disk.kill()
    assert {record.payload for record in nodes.read(on_disk)} == set(payloads.values())
    one.kill()
    one.start()
    one.wait_until_healthy()
    wait_one_span_and_sync(nodes, master, set(payloads.values()))


def wait_one_span_and_sync(nodes: Nodes, master: NodeProcess, wanted: set[bytes]) -> None:
    time.sleep(2.1)
    sync_until_whole(nodes, master, wanted, 3)


# -- somebody who asks -----------------------------------------------------------------------------


def test_without_a_scheduler(nodes: Nodes) -> None:
    """Nobody asked for five days; what no master has asked past outlives ``RETENTION_S``."""
    begin = now_ms() - 120 * HOUR_MS
    step = 119 * HOUR_MS // 12
    records = fill(nodes.folder / "slave", (make_record(n, begin + step * n) for n in range(12)))
    wanted = {record.payload for record in records}
    slave = nodes.make_slave(RETENTION_S="60")
    retain(slave)
    assert {record.payload for record in nodes.read(slave)} == wanted

    master = nodes.make_master({"alpha": slave.url}, SYNC_SLAVE_RECORDS="5")
    start(slave, master)
    sync(master)
    assert slave.stop() == 0
    retain(slave)
    fetched = {record.payload for record in nodes.read(master)}
    left = {record.payload for record in nodes.read(slave)}
    assert 0 < len(fetched) < len(wanted)
    assert left < wanted, "what the master has asked past is removed"
    assert fetched | left == wanted
    master.stop()
    unlimited = nodes.make_master({"alpha": slave.url})
    start(slave, unlimited)
    assert sync_until_whole(nodes, unlimited, wanted, 1) == 1


def retain(slave: NodeProcess) -> None:
    """Remove from the folder of a node that does not run what its retention allows."""
    node = build_node(Settings.from_env("slave", slave.env))
    assert node.slave is not None
    node.receiver.open()
    node.slave.retain(now=True)
    node.close()


# -- the table -------------------------------------------------------------------------------------


def read_rows() -> list[str]:
    """The rows of the page's first table, without its head."""
    lines = (ROOT / "docs" / "portability.md").read_text().splitlines()
    rows = [*itertools.takewhile(is_row, itertools.dropwhile(lambda x: not is_row(x), lines))]
    assert rows[0].endswith("| test |")
    return rows[2:]


def is_row(line: str) -> bool:
    return line.startswith("|")


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: row.split(" | ")[0][2:40])
def test_every_row_of_the_table_names_its_test(row: str) -> None:
    [(path, name)] = re.findall(r"`(tests/[\w/]+\.py)::(\w+)` \|$", row)
    tree = ast.parse((ROOT / path).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in names, f"{path}::{name}"


def test_every_test_stands_in_the_table() -> None:
    told = re.findall(r"`tests/e2e/test_portability\.py::(\w+)`", "\n".join(read_rows()))
    assert sorted(told) == sorted(name for name in globals() if name.startswith("test_without"))
