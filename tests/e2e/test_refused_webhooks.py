"""The log of real nodes: a start, a refused webhook, a sync that recovered something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start, sync
from tests.support.requests.sync_requests import Question, ask

SECRET = "a-secret-of-a-sender"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def read_lines(node: NodeProcess, text: str) -> list[str]:
    """Return the messages of the log that contain a text."""
    messages = [json.loads(line)["message"] for line in node.log.read_text().splitlines()]
    return [message for message in messages if text in message]


def test_starts_refusals_and_recoveries_are_lines(nodes: Nodes) -> None:
    fill(nodes.folder / "alpha", [make_record(n, now_ms() - 60_000) for n in range(3)])
    slave = nodes.make_slave("alpha", SPAN_S="1", SOURCES=f"hub=github:{SECRET}")
    start(slave)
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1", CONSOLE_TOKEN="c" * 20)
    start(master)

    (of_slave,) = read_lines(slave, "started: ")
    assert "started: slave " in of_slave
    assert f"store sqlite:{nodes.folder / 'alpha'}; authentication token; sources hub" in of_slave
    (of_master,) = read_lines(master, "started: ")
    assert f"slaves alpha {slave.url}; syncs on request; console on" in of_master

    forged = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={'0' * 64}"}
    for _ in range(20):
        assert ask(slave, Question("", "POST", "/webhook/hub", forged, b"{}")).status == 401
    plain = {"Content-Type": "application/json"}
    for _ in range(5):
        assert ask(slave, Question("", "POST", "/webhook/open", plain, b"{")).status == 400
    refused = read_lines(slave, "webhook refused with ")
    assert len(refused) == 2
    assert refused[0].startswith("webhook refused with 401 (source 'hub'): Unauthorized: ")
    assert refused[1].startswith("webhook refused with 400 (source 'open'): Malformed payload")
    assert SECRET not in slave.log.read_text()

    assert sync(master).status == 200
    assert sync(master).status == 200
    assert read_lines(master, "recovered") == [
        "slave alpha: 3 webhooks recovered, 0 of them repeats of others"
    ]
