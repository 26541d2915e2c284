"""The arrival feed of a master in a process of its own: latency, restarts, kills."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import TOKEN, Nodes, start


@pytest.fixture
def master(tmp_path: Path) -> Iterator[NodeProcess]:
    with Nodes(tmp_path) as nodes:
        master = nodes.make_master({})
        start(master)
        yield master


def request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> bytes:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content
    return content


def connect(master: NodeProcess) -> http.client.HTTPConnection:
    parts = urlsplit(master.url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


def read_feed(
    connection: http.client.HTTPConnection, after: str, wait: float = 0
) -> tuple[list[dict[str, Any]], str]:
    content = request(connection, "GET", f"/feed?after={after}&wait={wait}")
    lines = [json.loads(line) for line in content.splitlines()]
    assert lines[-1].get("end"), "the response was cut"
    return lines[:-1], lines[-1]["position"]


def test_a_waiting_consumer_gets_each_webhook_soon_after_its_sender(master: NodeProcess) -> None:
    sent: dict[int, float] = {}
    got: dict[int, float] = {}
    count = 40

    def consume() -> None:
        connection = connect(master)
        position = "now"
        _, position = read_feed(connection, position)
        ready.set()
        while len(got) < count:
            lines, position = read_feed(connection, position, 10)
            assert lines, "nothing came for ten seconds"
            for line in lines:
                got[line["data"]["n"]] = time.monotonic()

    ready = threading.Event()
    consumer = threading.Thread(target=consume)
    consumer.start()
    assert ready.wait(20)
    connection = connect(master)
    for n in range(count):
        request(connection, "POST", "/webhook", b'{"n":%d}' % n)
        sent[n] = time.monotonic()
        time.sleep(0.01)
    consumer.join(30)
    assert list(got) == list(range(count))
    delays = sorted(got[n] - sent[n] for n in sent)
    assert delays[count // 2] < 0.25, "a poll would take longer; the target is 50 ms when idle"


def test_a_position_may_come_in_parts(master: NodeProcess) -> None:
    body = b'{"position":"now"}'
    head = (
        f"PUT /consumers/shop HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", master.port), timeout=30) as sender:
        for part in (head.encode(), body[:5], body[5:]):
            sender.sendall(part)
            time.sleep(0.2)
        assert sender.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_consumer_misses_nothing_while_the_master_is_killed(master: NodeProcess) -> None:
    acknowledged: list[int] = []
    got: list[int] = []
    position = ""
    for round_ in range(4):
        sender = connect(master)
        for n in range(round_ * 25, round_ * 25 + 25):
            request(sender, "POST", "/webhook", b'{"n":%d}' % n)
            acknowledged.append(n)
        consumer = connect(master)
        lines, _ = read_feed(consumer, position)
        kept = lines[: len(lines) - round_]  # the consumer stops before it has read all
        got += [line["data"]["n"] for line in kept]
        position = kept[-1]["position"]
        if round_ % 2:
            master.kill()
        else:
            assert master.stop() == 0
        start(master)
    lines, _ = read_feed(connect(master), position)
    got += [line["data"]["n"] for line in lines]
    assert got == acknowledged


def test_a_consumer_that_is_gone_frees_its_place(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        master = nodes.make_master({}, THREADS="2")  # one of them may wait
        start(master)
        for _ in range(2):
            gone, headers = connect(master), {"Authorization": f"Bearer {TOKEN}"}
            gone.request("GET", "/feed?wait=60", headers=headers)
            time.sleep(1)
            gone.close()
            time.sleep(8)
        started = time.monotonic()
        assert read_feed(connect(master), "now", 0.1)[0] == []
        assert time.monotonic() - started < 20


def test_a_stopping_master_closes_waiting_responses(master: NodeProcess) -> None:
    lines: list[list[dict[str, Any]]] = []
    waiting = threading.Thread(
        target=lambda: lines.append(read_feed(connect(master), "now", 60)[0])
    )
    waiting.start()
    time.sleep(1)
    assert master.stop() == 0
    waiting.join(20)
    assert lines == [[]]
