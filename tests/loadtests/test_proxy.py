"""The proxy breaks connections where it is told to, and otherwise changes nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from loadtests.proxy import Proxy

ANSWER = bytes(range(256)) * 4096


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that sends back ``ANSWER`` for every line."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    proxy = Proxy(listener.getsockname()[1])
    proxy.start()
    yield proxy
    proxy.close()
    listener.close()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with closing(client):
        try:
            while client.recv(1024):
                client.sendall(ANSWER)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(client: socket.socket, size: int = len(ANSWER)) -> bytes:
    client.sendall(b"?")
    got = b""
    while len(got) < size and (data := client.recv(65536)):
        got += data
    return got


def read_until_reset(client: socket.socket) -> tuple[bytes, bool]:
    """What came, and whether it ended with a reset."""
    got = b""
    try:
        while data := client.recv(65536):
            got += data
    except ConnectionResetError:
        return got, True
    return got, False


def test_everything_passes_unchanged(proxy: Proxy) -> None:
    with closing(connect(proxy)) as client:
        assert ask(client) == ANSWER
        assert ask(client) == ANSWER


@pytest.mark.parametrize("size", [1, 100, 70_000])
def test_an_answer_is_cut_after_so_many_bytes(proxy: Proxy, size: int) -> None:
    with closing(connect(proxy)) as client:
        assert ask(client) == ANSWER
        proxy.behave(cut_answer=size, reset=True)  # counts from now on
        client.sendall(b"?")
        got, was_reset = read_until_reset(client)
        assert was_reset
        assert ANSWER.startswith(got)
        assert len(got) <= size
    proxy.heal()
    with closing(connect(proxy)) as client:
        assert ask(client) == ANSWER


def test_connections_are_reset_and_new_ones_refused(proxy: Proxy) -> None:
    with closing(connect(proxy)) as client:
        assert ask(client) == ANSWER
        proxy.behave(refuse=True)
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    # while it connects, or at the first read
    with pytest.raises(ConnectionResetError), closing(connect(proxy)) as client:
        client.recv(1)


def test_half_open_connections_are_silent_until_healed(proxy: Proxy) -> None:
    with closing(connect(proxy)) as client:
        assert ask(client) == ANSWER
        proxy.behave(silent=True)
        client.sendall(b"?")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_slow_connection_carries_everything_later(proxy: Proxy) -> None:
    proxy.behave(rate=100_000)
    with closing(connect(proxy)) as client:
        begun = time.monotonic()
        assert ask(client, 30_000) == ANSWER[:30_000]
        assert time.monotonic() - begun > 0.1  # at least: 30 kB at 100 kB a second
