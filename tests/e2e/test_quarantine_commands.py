"""The commands ``quarantine`` and ``masters`` against running nodes, with their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from portable_core.records import Meta, Pair, Record
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, start, sync
from tests.support.requests.sync_requests import Question, ask

#: A master that no longer exists.
GONE = "0f8fad5b-d9cb-469f-a165-70867728950e"

BIN = Path(sys.executable).parent


def run(node: NodeProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its last option is the node's address."""
    return run_with("--slave-url" if node.role == "slave" else "--master", node, *arguments)


def run_status(slave: NodeProcess) -> subprocess.CompletedProcess[str]:
    return run_with("--master", slave, "status")


def run_with(option: str, node: NodeProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "webhook-sync"), *arguments, option, node.url],
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYNC_TOKENS": TOKEN, "PATH": "/usr/bin"},
    )


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def set_aside(master: NodeProcess, record: Record) -> None:
    body = b"".join(ENCODINGS["application/json"].encode_records([record]))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    reply = ask(master, Question("", "POST", "/records?slave=alpha", headers, body))
    assert json.loads(reply.body)["set_aside"] == 1


def make_bad(number: int) -> Record:
    return Record(
        Pair(now_ms() - 60_000 + 1000 * number, number), b'{"bad":%d}' % number, Meta("shop")
    )


def test_the_quarantine_is_listed_released_and_deleted(nodes: Nodes) -> None:
    master = nodes.make_master({})
    start(master)
    assert "0 records in quarantine" in run(master, "quarantine", "list").stdout
    for number in (1, 2, 3):
        set_aside(master, make_bad(number))
    listed = run(master, "quarantine", "list", "--json")
    items = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [item["hash"] for item in items] == [3, 2, 1]
    ids = [item["id"] for item in items]
    table = run(master, "quarantine", "list")
    assert table.returncode == 0
    assert "3 records in quarantine" in table.stdout
    assert "its hash is" in " ".join(table.stdout.split())

    assert run(master, "quarantine", "show", "--raw", ids[2]).stdout == '{"bad":1}'
    shown = run(master, "quarantine", "show", ids[2])
    assert shown.returncode == 0
    assert "alpha" in shown.stdout
    assert '{"bad":1}' in shown.stdout
    assert json.loads(run(master, "quarantine", "show", "--json", ids[2]).stdout)["hash"] == 1

    released = run(master, "quarantine", "release", ids[2], ids[1])
    assert released.returncode == 0
    assert released.stdout.count(": stored, ") == 2
    assert run(master, "quarantine", "delete", ids[0]).stdout == f"{ids[0]}: deleted\n"
    for command in ("show", "release", "delete"):
        gone = run(master, "quarantine", command, ids[0])
        assert gone.returncode == 1
        assert "has no record" in gone.stderr
    assert sorted(record.payload for record in nodes.read(master)) == [b'{"bad":1}', b'{"bad":2}']
    assert "0 records in quarantine" in run(master, "quarantine", "list").stdout


def test_a_full_quarantine_fails_the_sync_and_is_reported(nodes: Nodes) -> None:
    good = make_record(1, now_ms() - 50_000)
    fill(nodes.folder / "alpha", [make_bad(1), make_bad(2), good])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    master = nodes.make_master({"alpha": slave.url}, QUARANTINE_RECORDS="1", SPAN_S="1")
    start(master)
    answer = sync(master)
    assert answer.status == 502
    assert answer.body["slaves"][0]["error_type"] == "QuarantineFull"
    status = json.loads(
        ask(master, Question("", "GET", "/status", {"Authorization": f"Bearer {TOKEN}"})).body
    )
    assert status["store"]["quarantine"]["records"] == 1
    (item,) = run(master, "quarantine", "list", "--json").stdout.splitlines()
    assert run(master, "quarantine", "delete", json.loads(item)["id"]).returncode == 0
    assert sync(master).status == 200
    assert [record.payload for record in nodes.read(master)] == [good.payload]


def test_the_masters_of_a_slave_are_listed_and_forgotten(nodes: Nodes) -> None:
    old = now_ms() - 30 * 86_400_000
    fill(nodes.folder / "alpha", [make_record(1, old), make_record(2, now_ms() - 60_000)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    assert run(slave, "masters", "list").stdout == "No master has synced this slave.\n"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    query = f"/sync?start={old}&end={old + 1}&span=1000&master={GONE}"
    assert ask(slave, Question("", "POST", query, headers, b"[]")).status == 200
    late = run(slave, "masters", "list")
    assert late.returncode == 1
    assert "late" in late.stdout
    status_of_slave = run_status(slave)
    assert (status_of_slave.returncode, GONE in status_of_slave.stdout) == (1, True)
    assert "2 webhooks stored" in status_of_slave.stdout
    assert run(slave, "masters", "forget", GONE).returncode == 0
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
    start(master)
    assert sync(master).status == 200
    listed = run(slave, "masters", "list", "--json")
    assert listed.returncode == 0
    assert run_status(slave).returncode == 0
    (mark,) = json.loads(listed.stdout)["masters"]
    status = Question("", "GET", "/status", headers)
    assert mark["master"] == json.loads(ask(master, status).body)["store"]["uuid"]
    assert json.loads(ask(slave, status).body)["masters"] == [mark]
    forgotten = run(slave, "masters", "forget", mark["master"])
    assert forgotten.returncode == 0
    assert run(slave, "masters", "list").stdout == "No master has synced this slave.\n"
    again = run(slave, "masters", "forget", mark["master"])
    assert again.returncode == 1
    assert "no master" in again.stderr


def test_the_wrong_node_is_explained(nodes: Nodes) -> None:
    slave, master = nodes.make_slave(), nodes.make_master({})
    start(slave, master)
    slave.role = "master"  # the option of the command
    wrong = run(slave, "quarantine", "list")
    assert wrong.returncode == 3
    assert "Is --master the address of a master?" in wrong.stderr
    master.role = "slave"
    wrong = run(master, "masters", "list")
    assert wrong.returncode == 3
    assert "Is --slave-url the address of a slave?" in wrong.stderr
