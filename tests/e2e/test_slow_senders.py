"""Senders that begin a request and stand still do not stop a node."""

from __future__ import annotations

import contextlib
import struct
import time
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import ask, post
from tests.support.requests.raw_http import connect, exchange

SLOW = 200


@pytest.mark.parametrize("what", ["head", "body"])
@pytest.mark.parametrize("kind", ["container", "function"])
def test_half_open_requests(tmp_path: Path, kind: Kind, what: str) -> None:
    """A node accepts webhooks while many more senders than it has threads stand still."""
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", kind, THREADS="2")
        start(slave)
        begun = {"head": b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-", "body": b""}[what]
        if what == "body":
            begun = ask("POST", "/webhook", body=b'{"slow":', framing=("Content-Length: 1000",))
        with contextlib.ExitStack() as stack:
            for _ in range(SLOW):
                stack.enter_context(connect(slave.port)).sendall(begun)
            for number in range(20):
                assert exchange(slave.port, post(b'{"n":%d}' % number)).status == 200
        assert exchange(slave.port, post(b'{"n":"last"}')).status == 200
        slave.stop()
        assert len(nodes.read(slave)) == 21


def make_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def make_streams(count: int) -> bytes:
    """The beginning of an HTTP/2 connection without TLS: so many webhooks, none of them ended."""
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/webhook"),
        (b":authority", b"node"),
        (b"content-type", b"application/json"),
    )
    # Literal fields without indexing (RFC 7541, section 6.2.2).
    block = b"".join(
        b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in headers
    )
    head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + make_frame(4, 0, 0, b"")
    return head + b"".join(
        make_frame(1, 4, stream, block) + make_frame(0, 0, stream, b'{"slow":')
        for stream in range(1, 2 * count, 2)
    )


@pytest.mark.parametrize("kind", ["container", "function"])
def test_half_open_streams(tmp_path: Path, kind: Kind) -> None:
    """One connection of HTTP/2 could hold many threads, and no kernel tells how slow each of its
    streams is: a node speaks HTTP/1.1 alone."""
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", kind, THREADS="2")
        start(slave)
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(connect(slave.port)).sendall(make_streams(40))
            time.sleep(0.25)
            for number in range(4):
                assert exchange(slave.port, post(b'{"n":%d}' % number)).status == 200
        slave.stop()
        assert len(nodes.read(slave)) == 4
