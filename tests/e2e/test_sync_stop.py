"""A sync ends in order whichever side is stopped, goes away or falls silent."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.proxy import Plan, Proxy
from portable_core.demo.processes import Kind, NodeProcess
from portable_core.records import Record
from portable_core.wire.negotiation import ENCODINGS
from tests.e2e.test_sync_streaming import MSGPACK, RawSync
from tests.support.nodes.hostile_slave import HostileSlave, Talk
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Answer,
    Nodes,
    ask,
    count_needless,
    fill,
    make_record,
    now_ms,
    start,
    sync,
)

PLATFORM_S = 10  # from SIGTERM to SIGKILL on Cloud Run
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
COUNT = 3000


@pytest.fixture(params=["container", pytest.param("function", marks=pytest.mark.deep)])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def fill_slave(nodes: Nodes) -> list[Record]:
    """3,000 records of 2 kB in half a minute, an hour ago."""
    begin = now_ms() - 3_600_000
    return fill(
        nodes.folder / "slave", [make_record(n, begin + 10 * n, 2000) for n in range(COUNT)]
    )


def stop_in_time(node: NodeProcess) -> None:
    begun = time.monotonic()
    assert node.stop() == 0, node.read_log_end()
    assert time.monotonic() - begun < PLATFORM_S


@contextmanager
def syncing(master: NodeProcess) -> Iterator[Future[Answer]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit(sync, master)


def wait_for_records(nodes: Nodes, master: NodeProcess) -> None:
    """Until the master has saved something of the sync that is running."""
    for _ in range(400):
        if (nodes.folder / "master").exists() and nodes.read(master):
            return
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


def finish(nodes: Nodes, master: NodeProcess, records: list[Record]) -> None:
    """Another sync gets the rest, and nothing twice."""
    before = nodes.read(master)
    assert 0 < len(before) < COUNT
    answer = sync(master)
    assert answer.status == 200, answer.body
    after = nodes.read(master)
    assert [record.payload for record in after] == [record.payload for record in records]
    assert count_needless(after) == 0
    (slave,) = answer.body["slaves"]
    # What was saved is not asked for again, but for the last batch before a kill.
    assert slave["saved"] == COUNT - len(before)
    assert slave["records_received"] == slave["saved"] + slave["represented"]


def test_a_slave_that_is_stopped_while_it_answers(nodes: Nodes, kind: Kind) -> None:
    records = fill_slave(nodes)
    slave = nodes.make_slave("slave", kind)
    with Proxy(slave.port, lambda line: Plan(rate=1_500_000)) as proxy:
        master = nodes.make_master({"slave": proxy.url})
        start(slave, master)
        with syncing(master) as answer:
            wait_for_records(nodes, master)
            stop_in_time(slave)
        assert answer.result().status == 502
        (report,) = answer.result().body["slaves"]
        assert report["saved"] == len(nodes.read(master))
        proxy.plan = lambda line: Plan()
        start(slave)
        finish(nodes, master, records)
    assert "being stopped" in slave.log.read_text()


def test_a_slave_that_is_killed_while_it_answers(nodes: Nodes) -> None:
    records = fill_slave(nodes)
    slave = nodes.make_slave("slave")
    with Proxy(slave.port, lambda line: Plan(rate=1_500_000)) as proxy:
        master = nodes.make_master({"slave": proxy.url})
        start(slave, master)
        with syncing(master) as answer:
            wait_for_records(nodes, master)
            slave.kill()
        assert answer.result().status == 502
        proxy.plan = lambda line: Plan()
        start(slave)
        finish(nodes, master, records)


def test_a_master_that_is_stopped_while_it_receives(nodes: Nodes, kind: Kind) -> None:
    records = fill_slave(nodes)
    slave = nodes.make_slave("slave")
    with Proxy(slave.port, lambda line: Plan(rate=1_500_000)) as proxy:
        master = nodes.make_master({"slave": proxy.url}, kind)
        start(slave, master)
        with syncing(master) as answer:
            wait_for_records(nodes, master)
            stop_in_time(master)
        # It still answers, with what it did until then.
        assert answer.result().status == 200
        (report,) = answer.result().body["slaves"]
        assert "the next one continues" in report["warning"]
        assert report["saved"] == len(nodes.read(master))
        assert report["cursor"] is not None
        proxy.plan = lambda line: Plan()
        start(master)
        finish(nodes, master, records)  # at once: the lease was given back


def wait_for_answering(slave: NodeProcess) -> None:
    """Until the slave has begun to answer a sync. (Asking for one might take its only place.)"""
    for _ in range(1000):
        request = urllib.request.Request(
            f"{slave.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            if b"\nwebhook_sync_syncs_answered_total 1.0\n" in answer.read():
                return
        time.sleep(0.02)
    raise AssertionError("the slave answers no sync")


def _describe(talk: Talk) -> None:
    now = now_ms()
    encodings = ",".join(f'"{name}"' for name in ENCODINGS)
    document = (
        f'{{"store":"{UUID}","generation":1,"first":1,"horizon":{now},"now":{now},'
        f'"span":120000,"hash":"crc32c","encodings":[{encodings}]}}'
    )
    talk.send_whole("200 OK", document.encode(), Content_Type="application/json")


@pytest.mark.parametrize("silent_from", ["GET", "POST", "answer"])
def test_a_master_that_is_stopped_while_a_slave_is_silent(
    nodes: Nodes, kind: Kind, silent_from: str
) -> None:
    silent = threading.Event()

    def handle(talk: Talk) -> None:
        if talk.read_head().startswith(b"GET") and silent_from != "GET":
            _describe(talk)
            return
        if silent_from == "answer":
            talk.send_head(Sync_Store=f"{UUID}/1")
        silent.set()
        talk.wait_for_end()

    with HostileSlave(handle) as slave:
        master = nodes.make_master({"slave": slave.url}, kind)
        start(master)
        with syncing(master) as answer:
            assert silent.wait(20)
            stop_in_time(master)
        assert answer.result().status == 200
        assert "the next one continues" in answer.result().body["slaves"][0]["warning"]


@pytest.mark.parametrize("where", ["reading the request", "writing the answer"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_is_worked_for_no_more(
    nodes: Nodes, kind: Kind, where: str, reset: bool
) -> None:
    """Only one sync is answered at a time here, so that the next one shows when this one ended."""
    records = fill_slave(nodes)
    slave = nodes.make_slave("slave", kind, MAX_SYNCS="1", SPAN_S="1")
    start(slave)
    client = RawSync(slave, 0, now_ms(), MSGPACK)
    if where == "reading the request":
        client.send(b"".join(ENCODINGS[MSGPACK].encode_pairs(r.pair for r in records))[:-1])
        wait_for_answering(slave)
        assert ask(slave, "POST", "/sync?start=1&end=2").status == 429
    else:
        client.send(b"\xc0")
        client.finish()
        client.receive(count=1)
    client.close(reset=reset)
    begun = time.monotonic()
    while ask(slave, "POST", "/sync?start=1&end=2").status == 429:
        assert time.monotonic() - begun < 20, "the slave still works for a client that is gone"
        time.sleep(0.02)
