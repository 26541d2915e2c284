"""The HTTP client when this side fails, leaves early or is stuck."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.errors import SlaveError, SlaveUnreachable, Unauthorized
from tests.support.nodes.hostile_slave import HostileSlave, Talk
from tests.support.nodes.http_clients import Endless, ask, connect, echo, exchange, read_all, serve


def test_a_body_that_raises_after_the_headers() -> None:
    def body() -> Iterator[bytes]:
        yield b"one"
        got.wait(20)
        raise ZeroDivisionError("mine")

    got = threading.Event()
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        with client.exchange(ask(body())) as answer:
            assert next(answer.chunks) == b"one"
            got.set()
            with pytest.raises(ZeroDivisionError, match="mine"):
                next(answer.chunks)
        slave.wait()
        # It must not look like a request that has ended.
        assert [type(error) for error in slave.errors] in (
            [ConnectionError],
            [ConnectionResetError],
        )


@pytest.mark.parametrize("body", [(1 // zero for zero in [0]), [b"fine", "not bytes"], None])
def test_a_body_that_raises_before_the_headers(body: Iterator[bytes] | None) -> None:
    class Odd:
        def __iter__(self) -> Iterator[bytes]:
            raise KeyboardInterrupt

    with (
        serve(read_all) as client,
        pytest.raises((ZeroDivisionError, TypeError, KeyboardInterrupt)),
    ):
        exchange(client, body or Odd())


def test_leaving_early() -> None:
    """The slave notices at once; the body is closed by the thread that ran it."""

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        for _ in talk.read_body():
            pass

    def handle_silently(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        while True:
            talk.send_chunk(b"more")

    for handler in (handle, handle_silently):
        with HostileSlave(handler) as slave, connect(slave.url) as client:
            body = Endless(pause=lambda: time.sleep(0.01))
            with client.exchange(ask(body.body)) as answer:
                assert next(answer.chunks).startswith(b"!")
            assert body.closed.is_set()
            assert len(body.threads) == 1
            assert str(threading.get_ident()) not in body.threads
            with pytest.raises(SlaveUnreachable, match="ended by this side"):
                for _ in answer.chunks:
                    pass
            slave.wait()
            assert slave.errors


def test_leaving_by_an_exception() -> None:
    body = Endless()
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        with contextlib.suppress(LookupError), client.exchange(ask(body.body)) as answer:
            next(answer.chunks)
            raise LookupError
        assert body.closed.is_set()
        slave.wait()


def test_leaving_with_everything_stuck(caplog: pytest.LogCaptureFixture) -> None:
    """Leaving returns while slave and body are stuck: only after it they are let go."""
    release = threading.Event()
    pulled = threading.Event()

    def pause() -> None:
        pulled.set()
        release.wait(60)

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        release.wait(60)
        talk.read_chunk()
        talk.read_chunk()

    body = Endless(pause)
    with HostileSlave(handle) as slave, connect(slave.url) as client:
        with client.exchange(ask(body.body)) as answer:
            assert next(answer.chunks) == b"!"
            assert pulled.wait(20)
        assert not body.closed.is_set()
        assert "the request's body blocks" in caplog.text
        release.set()
        assert body.closed.wait(20)
        assert len(body.threads) == 1
        slave.wait()
        assert [type(error) for error in slave.errors] == [ConnectionResetError]


def test_leaving_with_a_full_buffer() -> None:
    """A slave that does not read learns of it too: what waits for it is dropped, not sent first."""
    left, noticed = threading.Event(), threading.Event()

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        left.wait(60)
        watched = select.poll()
        watched.register(talk.sock, select.POLLERR)
        if watched.poll(20_000):
            noticed.set()

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        with client.exchange(ask(Endless().body)) as answer:
            assert next(answer.chunks) == b"!"
            time.sleep(0.3)
        left.set()
        slave.wait()
    assert noticed.is_set()


def test_a_body_that_fails_while_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            raise OSError("the store has gone")

    with serve(echo) as client, client.exchange(ask(body())) as answer:
        next(answer.chunks)
    assert "the store has gone" in caplog.text


def test_credentials_that_fail() -> None:
    def refuse() -> Mapping[str, str]:
        raise Unauthorized("no identity here")

    def crash() -> Mapping[str, str]:
        raise RuntimeError("metadata server")

    def inject() -> Mapping[str, str]:
        return {"Authorization": "Bearer a\r\nX: y"}

    for credentials, kind, message in (
        (refuse, Unauthorized, "no identity here"),
        (crash, SlaveError, "no credentials: metadata server"),
        (inject, SlaveUnreachable, "Are address and token correct"),
    ):
        with (
            HostileSlave(read_all) as slave,
            HttpSlaveClient("a", slave.url, credentials=credentials, idle_s=5) as client,
            pytest.raises(kind, match=message),
        ):
            client.describe()
