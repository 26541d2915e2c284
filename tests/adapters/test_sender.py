"""Sending again over real connections: a receiver that never ends, and headers beyond ASCII."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from portable_core.adapters.http.sender import HttpConnection, connect
from portable_core.records import Meta, Pair, Record
from portable_core.webhooks.delivery_request import Outcome, make_headers
from tests.support.nodes.receivers import run_receiver


@contextmanager
def dripping(first: bytes, drip: bytes) -> Iterator[str]:
    """A receiver that begins with ``first`` and then sends ``drip`` ten times a second."""
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(first)
                while not ended.wait(0.1):
                    connection.sendall(drip)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
        finally:
            ended.set()
            thread.join(5)


@pytest.mark.parametrize(
    ("first", "drip", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Wait: 1\r\n", 0, "no complete response within 0.5 s"),
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", b"x", 204, "No Content"),
        (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n", b"x", 500, "No"),
    ],
    ids=["head", "no body", "body"],
)
def test_a_receiver_that_drips_is_given_up(
    first: bytes, drip: bytes, status: int, reason: str
) -> None:
    with dripping(first, drip) as url:
        started = time.monotonic()
        outcome = HttpConnection(url, total_s=0.5).post({"content-type": "x/y"}, b"{}")
        assert time.monotonic() - started < 3
        assert (outcome.status, outcome.reason) == (status, reason)


def test_headers_arrive_as_they_were_kept() -> None:
    kept = {"user-agent": "M\u00fcller/1", "x-github-event": "a\tb", "x-utf8": "\u00c3\u0089"}
    record = Record(Pair(5, 7), b"{}", Meta("s", kept))
    with run_receiver() as receiver:
        connection = HttpConnection(receiver.url)
        assert connection.post(make_headers(record, "", 1), record.payload).ok
        connection.close()
    ((headers, _body),) = receiver.taken
    assert {name: headers[name] for name in kept} == kept


@pytest.mark.parametrize(
    ("address", "query", "target"),
    [
        ("", "", "/hook"),
        ("", "a=%20b&a", "/hook?a=%20b&a"),
        ("?t=1", "a=\u00e9", "/hook?t=1&a=%E9"),
    ],
)
def test_the_query_string_follows_that_of_the_address(
    address: str, query: str, target: str
) -> None:
    with run_receiver() as receiver, connect(receiver.url + address) as connection:
        assert connection.post({}, b"{}", query).ok
    assert receiver.targets == [target]


def test_the_delay_that_a_receiver_asks_for_is_reported() -> None:
    receiving = run_receiver(lambda body: 503, retry_after="7")
    with receiving as receiver, connect(receiver.url) as connection:
        assert connection.post({}, b"{}") == Outcome(503, "Service Unavailable", "7")
