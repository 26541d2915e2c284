"""Clients that are slow, or never end, against the container's event loop."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from loadtests.generator import make_bodies, measure
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import ask, post
from tests.support.requests.raw_http import connect, exchange, measure_resident, read_answer

MIB = 2**20


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def test_large_webhooks_wait_for_each_other(nodes: Nodes) -> None:
    """Together they are twice as large as what a node holds; it reads them in turn."""
    slave = nodes.make_slave(BUFFER_BYTES=str(32 * MIB))
    start(slave)

    def send(number: int) -> str:
        body = b'{"n":%d,"x":"%b"}' % (number, b"x" * (MIB - 100))
        request = post(body)
        while True:
            with connect(slave.port) as connection:
                connection.sendall(request[: MIB // 2])
                time.sleep(0.5)
                connection.sendall(request[MIB // 2 :])
                answer = read_answer(connection)
            if answer.status == 200:
                return ""
            if "wait for the store" not in answer.detail:  # it is full of complete webhooks
                return answer.detail

    with ThreadPoolExecutor(64) as threads:
        assert list(threads.map(send, range(64))) == [""] * 64
    slave.stop()
    assert len(nodes.read(slave)) == 64


def test_unfinished_requests_hold_little_memory_and_no_other_sender(nodes: Nodes) -> None:
    slave = nodes.make_slave(BUFFER_BYTES=str(16 * MIB))
    start(slave)
    assert exchange(slave.port, post(b'{"n":0}')).status == 200
    before, _ = measure_resident(slave.pid)
    head = ask("POST", "/webhook", framing=(f"Content-Length: {MIB}",))
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(connect(slave.port))
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # the node reads no more, or has closed
                rest = head + b" " * (MIB - 1)
                while rest:
                    rest = rest[connection.send(rest) :]
        begun = time.monotonic()
        for number in range(20):
            assert exchange(slave.port, post(b'{"n":%d}' % (number + 1))).status == 200
        assert time.monotonic() - begun < 10
        _, peak = measure_resident(slave.pid)
    assert peak - before < 64 * MIB
    slave.stop()
    assert len(nodes.read(slave)) == 21


def test_unfinished_bodies_hold_little_of_the_disk(nodes: Nodes) -> None:
    """Beyond 8 times ``BUFFER_BYTES`` in files the oldest is answered 503."""
    slave = nodes.make_slave(BUFFER_BYTES=str(4 * MIB), MAX_BODY_BYTES=str(4 * MIB))
    start(slave)
    body = b'{"x":"%b"}' % (b"x" * (3 * MIB))
    request = post(body)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(slave.port)) for _ in range(13)]
        for connection in connections:
            connection.sendall(request[:-2])
            time.sleep(0.05)
        connections[0].settimeout(10)
        answer = read_answer(connections[0])
        assert (answer.status, "unfinished" in answer.detail) == (503, True)
        connections[-1].sendall(request[-2:])
        assert read_answer(connections[-1]).status == 200
    slave.stop()
    assert len(nodes.read(slave)) == 1


def test_a_request_in_tiny_pieces_is_read_once_in_a_while(nodes: Nodes) -> None:
    """Each read costs the same, however little it brings."""
    slave = nodes.make_slave()
    start(slave)
    request = post(b'{"n":1}')
    with connect(slave.port) as connection:
        begun = time.monotonic()
        for byte in request[:40]:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
        connection.sendall(request[40:])
        assert read_answer(connection).status == 200
        assert 1 < time.monotonic() - begun < 60
        begun = time.monotonic()
        connection.sendall(post(b'{"n":2}'))  # the next one is not
        assert read_answer(connection).status == 200
    slave.stop()
    assert len(nodes.read(slave)) == 2


def test_two_thousand_senders_wait_for_one_commit_a_second(nodes: Nodes) -> None:
    """A waiting sender costs memory only; none is refused. Webhooks are due at a fixed rate, so
    that the commit waits for a second each time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 5000:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
    slave = nodes.make_slave(LINGER_MS="1000")
    start(slave)
    load = uvloop.run(
        measure(slave.port, "/webhook", make_bodies(16_000), senders=3500, seconds=6, rate=2200)
    )
    print(f"{load.rate:.0f} a second, p50 {load.p50:.0f} ms, p99 {load.p99:.0f} ms")
    assert load.refused == 0
    assert load.p50 > 300  # they did wait
    assert load.p99 < 2500
    slave.stop()
    assert len(nodes.read(slave)) == 6 * 2200
