"""``webhook-sync sync``: through a running master, and standalone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from portable_core.records import Record
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, start

COMMAND = str(Path(sys.executable).parent / "webhook-sync")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def make_slave(nodes: Nodes, name: str) -> tuple[NodeProcess, list[Record]]:
    begin = now_ms() - 900_000 + 7 * len(name)
    records = [make_record(1000 * int(name[-1]) + n, begin + n, 1000) for n in range(500)]
    return nodes.make_slave(name), fill(nodes.folder / name, records)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_other("sync", *arguments, **env)


def run_other(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "150", **env},
    )


def run_on_terminal(*arguments: str, **env: str) -> str:
    """What a terminal got on its standard error."""
    ours, theirs = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "150", "TERM": "xterm", **env}
    with subprocess.Popen(
        [COMMAND, "sync", *arguments], stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed (EIO)
                break
        os.close(ours)
        assert process.wait(60) == 0
    return shown.decode()


def test_through_a_running_master(nodes: Nodes) -> None:
    one, of_one = make_slave(nodes, "slave-1")
    two, of_two = make_slave(nodes, "slave-2")
    master = nodes.make_master({"slave-1": one.url, "slave-2": two.url})
    start(one, two, master)

    first = run("--master", master.url, "--slave", "slave-1", SYNC_TOKENS=TOKEN)
    assert first.returncode == 0, first.stderr
    assert "slave-1" in first.stdout
    assert "complete" in first.stdout
    assert "slave-2" not in first.stdout
    lines = first.stderr.splitlines()
    assert any("slave-1: " in line and "500 records received" in line for line in lines), lines
    assert "slave-1: " in lines[0]

    shown = run_on_terminal("--master", master.url, SYNC_TOKENS=TOKEN)
    assert "slave-2" in shown
    assert "━" in shown
    assert "records received" in shown

    third = run("--master", master.url, "--json", SYNC_TOKENS=f"{TOKEN},another")
    assert third.returncode == 0
    assert third.stderr == ""
    report = json.loads(third.stdout)
    assert [slave["saved"] for slave in report["slaves"]] == [0, 0]
    held = {record.payload for record in nodes.read(master)}
    assert held == {record.payload for record in of_one + of_two}

    two.kill()
    failed = run("--master", master.url, SYNC_TOKENS=TOKEN)
    assert failed.returncode == 1
    assert "slave-2: " in failed.stderr
    assert "Is the node running?" in failed.stderr


def test_what_a_master_refuses_is_one_line(nodes: Nodes) -> None:
    master = nodes.make_master({})
    start(master)
    for code, token, url, text in (
        (3, "wrong-token", master.url, "answered 401: the token is not a token of this node"),
        (3, TOKEN, "http://127.0.0.1:9", "does not respond"),
        (
            1,
            TOKEN,
            "ftp://127.0.0.1",
            "--master: 'ftp://127.0.0.1' is not an http:// or https:// address",
        ),
    ):
        done = run("--master", url, SYNC_TOKENS=token)
        assert done.returncode == code
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert text in line
    done = run("--master", master.url, "--slave", "nobody", SYNC_TOKENS=TOKEN)
    assert done.returncode == 1
    assert "no slave has the name 'nobody'" in done.stderr


def test_standalone(nodes: Nodes) -> None:
    slave, records = make_slave(nodes, "slave-1")
    start(slave)
    folder = nodes.folder / "own"
    env = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{folder}", "SLAVES": f"slave-1={slave.url}"}
    done = run(**env)
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout
    assert "500 records received" in done.stderr
    master = nodes.make_master({}, name="own")
    assert [r.payload for r in nodes.read(master)] == [r.payload for r in records]
    again = run("--json", **env)
    assert [s["records_received"] for s in json.loads(again.stdout)["slaves"]] == [0]

    # A running master has the folder: the command reports it and changes nothing.
    start(master)
    busy = run(**env)
    assert busy.returncode == 1
    assert "is being written by process" in busy.stderr
    assert "If a master runs there, name it with --master." in busy.stderr

    assert run(SYNC_TOKENS=TOKEN, STORE="memory:").stderr == (
        "Error: SLAVES: missing. List the slaves as name=url,name=url.\n"
    )
