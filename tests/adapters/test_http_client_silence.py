"""The HTTP client when nothing comes: whose silence it is, and when it gives up."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from portable_core.adapters.http.async_bridge import LoopThread
from portable_core.adapters.http.exchange import Exchange, Request, Timeouts
from portable_core.errors import SlaveError, SlaveUnreachable
from tests.support.nodes.hostile_slave import HostileSlave, Talk
from tests.support.nodes.http_clients import (
    HALF,
    Endless,
    Handler,
    echo,
    exchange,
    read_all,
    receive_until_error,
    say_nothing,
    serve,
)


def _drip_the_head(talk: Talk) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        talk.send(b"X: y\r\n")
        time.sleep(0.05)


def _continue_for_ever(talk: Talk) -> None:
    while True:
        talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.001)


@pytest.mark.parametrize("say", [say_nothing, _drip_the_head, _continue_for_ever])
def test_no_headers(say: Handler) -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        say(talk)

    with (
        serve(handle, idle_s=0.4) as client,
        pytest.raises(SlaveUnreachable, match=r"timeout: no response for 0.4 s"),
    ):
        exchange(client)


def test_silence_within_an_answer() -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        talk.send_head()
        talk.send_chunk(HALF)
        # Bytes that carry nothing are silence too.
        talk.send(b"5;")
        while True:
            talk.send(b"x" * 100)
            time.sleep(0.02)

    with serve(handle, idle_s=0.4) as client:
        received, error = receive_until_error(client)
    assert received == HALF
    assert re.search(r"alpha .*: timeout: no bytes for 0.4 s", str(error))


def test_a_slave_that_stops_reading_is_silent() -> None:
    body = Endless()

    def handle(talk: Talk) -> None:
        talk.read_head()
        threading.Event().wait(20)

    with (
        serve(handle, idle_s=0.4) as client,
        pytest.raises(SlaveUnreachable, match="no response"),
    ):
        exchange(client, body.body)
    assert body.closed.is_set()


def test_a_slave_that_reads_slowly_is_not_silent() -> None:
    """It has nothing to say until it has read the request, which takes five times ``idle_s``."""

    def handle(talk: Talk) -> None:
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        talk.read_head()
        for _ in talk.read_body():
            time.sleep(0.02)
        talk.send_head()
        talk.end()

    with serve(handle, idle_s=0.4) as client:
        assert exchange(client, [b"x" * 6_400_000]) == b""


def test_a_slow_body_of_our_own_is_not_the_slaves_silence() -> None:
    def body() -> Iterator[bytes]:
        for _ in range(3):
            time.sleep(0.6)
            yield b"late"

    with serve(echo, idle_s=0.3) as client:
        assert exchange(client, body()) == b"late" * 3


def test_a_stuck_body_of_our_own_ends_the_exchange() -> None:
    release = threading.Event()
    body = Endless(pause=lambda: release.wait(60))
    loops = LoopThread()
    with HostileSlave(echo) as slave:
        request = Request("slave", "POST", slave.url + "/sync", {}, body=body.body)
        with Exchange(loops, request, Timeouts(idle_s=0.2, body_s=0.4)) as running:
            chunks = running.chunks()
            assert len(next(chunks)) == 10_000
            with pytest.raises(SlaveError, match=r"timeout: no data to send for 0.4 s"):
                next(chunks)
        assert not body.closed.is_set()
        release.set()
        assert body.closed.wait(20)
    loops.close()
