"""A function's event loop as a worker of gunicorn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import post
from tests.support.requests.raw_http import connect, read_answer


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


@pytest.mark.deep
def test_a_function_serves_as_long_as_gunicorn_runs(nodes: Nodes) -> None:
    """gunicorn ends a worker that does not report; a worker ends when gunicorn was killed."""
    slave = nodes.make_slave("slave", "function", CLOUD_RUN_TIMEOUT_SECONDS="2")
    start(slave)
    with connect(slave.port) as connection:
        time.sleep(4)
        connection.sendall(post(b'{"n":1}'))
        assert read_answer(connection).status == 200
        os.kill(slave.pid, signal.SIGKILL)
        assert connection.recv(1) == b""
    slave.kill()
    assert len(nodes.read(slave)) == 1


@pytest.mark.deep
def test_a_function_is_interrupted_in_order(nodes: Nodes) -> None:
    """gunicorn gets SIGINT from a terminal, and sends SIGQUIT to its worker."""
    slave = nodes.make_slave("slave", "function", ACK="buffered", FLUSH_INTERVAL_S="60")
    start(slave)
    with connect(slave.port) as connection:
        connection.sendall(post(b'{"n":1}'))
        assert read_answer(connection).status == 200
        os.kill(slave.pid, signal.SIGINT)
        assert connection.recv(1) == b""
    assert slave.stop() == 0
    assert len(nodes.read(slave)) == 1
