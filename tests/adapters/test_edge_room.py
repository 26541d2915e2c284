"""Connections beyond ``MAX_CONNECTIONS``, and requests beyond those that wait on one."""

from __future__ import annotations

import asyncio
import gc

import pytest

from portable_core.adapters.edge.connection import Connection
from portable_core.adapters.edge.edge import Edge
from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.request import Request


class _Handler:
    def receive(self, request: Request, body: bytes) -> bool:
        return False

    def begin(self, request: Request) -> None: ...

    def complete(self, request: Request) -> None: ...

    def describe(self, status: int, detail: str) -> bytes:
        return b""


class _Transport(asyncio.Transport):
    """Ends a connection a turn of the loop later, as transports do: here, never."""

    def __init__(self) -> None:
        super().__init__()
        self.aborts = 0
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: object) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return self.aborts > 0

    def abort(self) -> None:
        self.aborts += 1


def _connect(edge: Edge) -> _Transport:
    transport = _Transport()
    Connection(edge).connection_made(transport)
    return transport


def test_each_connection_that_comes_in_one_turn_ends_another_one() -> None:
    edge = Edge(_Handler(), EdgeLimits(connections=8), max_body=1)
    first = [_connect(edge) for _ in range(8)]
    assert [each.aborts for each in first] == [0] * 8
    later = [_connect(edge) for _ in range(5)]
    assert [each.aborts for each in first] == [1] * 5 + [0] * 3
    assert [each.aborts for each in later] == [0] * 5
    assert len(edge.connections) == 8


def test_a_connection_with_enough_requests_is_not_read_for_another_reason() -> None:
    """It is held up by the budget, dozes, and is let go meanwhile: responses still come first."""
    edge = Edge(_Handler(), EdgeLimits(pipelined=4), max_body=100)
    transport = _Transport()
    connection = Connection(edge)
    connection.connection_made(transport)
    request = b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    connection.data_received(request * 1000)
    waiting = len(connection.queue)
    assert 4 <= waiting < 200
    assert not transport.reading
    for stop, go_on in (
        (connection.hold_up, connection.let_go),
        (connection.doze, connection.wake),
    ):
        stop()
        go_on()
        assert not transport.reading
    connection.data_received(request)
    assert len(connection.queue) == waiting
    assert edge.budget.total > 50_000
    connection.connection_lost(None)
    assert edge.budget.total == 0


def test_requests_that_were_given_up_are_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = Edge(_Handler(), EdgeLimits(held_bytes=10_000), max_body=100_000)
    head = b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n"
    connections = []
    for now in (100.0, 130.0, 170.0):
        for _ in range(5):
            connections.append(Connection(edge))
            connections[-1].connection_made(_Transport())
            connections[-1].data_received(head + b" " * 4000)
        edge._report(now)
    assert [record.args for record in caplog.records] == [(3,), (10,)]
    assert edge.budget.total <= 10_000
    assert [each.phase for each in connections[-3:]] == ["closed", "body", "body"]


class _Answering(_Handler):
    """Keeps something with each request that refers to the request, as handlers do."""

    def begin(self, request: Request) -> None:
        request.data = [request]
        request.collect(100)

    def complete(self, request: Request) -> None:
        request.respond(200, (), b"")


def test_answered_requests_are_free_without_a_collection() -> None:
    """A collection looks at all objects of 256 senders, and memory that is not free is not warm."""
    edge = Edge(_Answering(), EdgeLimits(), max_body=100)
    connection = Connection(edge)
    connection.connection_made(_Transport())
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            connection.data_received(
                b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
            )
        alive = sum(isinstance(each, Request) for each in gc.get_objects())
    finally:
        gc.enable()
    assert connection.phase == "idle"
    assert alive <= 2
