"""The feed of a master that stops meanwhile: no part is mistaken for the whole."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from portable_core.cli import master_client as cli_master
from portable_core.cli.main import main
from portable_core.demo.processes import NodeProcess
from portable_core.errors import Unavailable
from portable_core.records import Record, format_id
from portable_core.webhooks.feed import NDJSON
from tests.support.nodes.receivers import run_receiver
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, start

#: Together more bytes than the buffers between two processes.
COUNT = 3000
SIZE = 8000


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


@pytest.fixture
def records(nodes: Nodes) -> list[Record]:
    begin = now_ms() - 600_000
    return fill(nodes.folder / "master", (make_record(n, begin + n, SIZE) for n in range(COUNT)))


@pytest.fixture
def master(nodes: Nodes, records: list[Record]) -> NodeProcess:
    master = nodes.make_master({})
    start(master)
    return master


def list_ids(records: list[Record]) -> list[str]:
    return [format_id(record.pair) for record in records]


def test_a_cut_feed_ends_without_its_closing_line(
    master: NodeProcess, records: list[Record]
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": NDJSON}
    request = urllib.request.Request(f"{master.url}/webhooks", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        lines = [json.loads(line) for line in answer]
    assert [line.get("id") for line in lines] == [*list_ids(records), None]
    assert lines[-1]["end"] is True
    with urllib.request.urlopen(request, timeout=20) as answer:
        received = [answer.readline()]
        os.kill(master.pid, signal.SIGTERM)
        time.sleep(1)
        received += answer  # to its end, without an error
    assert 1 < len(received) < COUNT
    assert not any("end" in json.loads(line) for line in received)


def test_a_reader_continues_after_a_restart_of_the_master(
    master: NodeProcess, records: list[Record]
) -> None:
    def start_again() -> None:
        assert master.stop() == 0
        master.start()

    ids = []
    with ThreadPoolExecutor(1) as executor:
        for line in cli_master.MasterClient(master.url, TOKEN).read_feed({"raw": "1"}):
            ids.append(json.loads(line)["id"])
            if len(ids) == 10:
                again = executor.submit(start_again)
        again.result()
    assert ids == list_ids(records)


def test_a_command_fails_if_the_rest_of_the_feed_is_missing(
    master: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_master, "_PAUSE_S", 0.01)
    address = ["--master", master.url, "--token", TOKEN]

    def answer(body: bytes) -> int:
        if json.loads(body)["number"] == 9:
            os.kill(master.pid, signal.SIGTERM)
            time.sleep(1)
        return 200

    with run_receiver(answer) as receiver:
        command = ["replay", receiver.url, *address, "--since", "1h", "--json"]
        done = CliRunner().invoke(main, command)
    totals = json.loads(done.stdout)
    assert (done.exit_code, totals["state"], totals["failed"]) == (1, "failed", 0)
    assert 10 <= totals["delivered"] < COUNT
    assert "the feed was cut" in totals["problem"]


def test_a_first_request_without_a_response_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_master, "_PAUSE_S", 60)
    with pytest.raises(Unavailable, match="Is the master running"):
        next(cli_master.MasterClient("http://127.0.0.1:9", TOKEN).read_feed({}))
