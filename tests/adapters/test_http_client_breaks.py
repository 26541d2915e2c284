"""The HTTP client when answers break off, or never were HTTP."""

from __future__ import annotations

import json

import pytest

from portable_core.errors import AnswerInvalid, SlaveRefused, SlaveUnreachable
from tests.support.nodes.hostile_slave import Talk
from tests.support.nodes.http_clients import (
    HALF,
    Endless,
    Handler,
    exchange,
    read_all,
    read_rss,
    receive_until_error,
    say_garbage,
    serve,
    wait_until_received,
)


def _cut_chunked(talk: Talk) -> None:
    talk.send_head()
    talk.send_chunk(HALF)


def _cut_within_a_chunk(talk: Talk) -> None:
    talk.send_head()
    talk.send(b"%x\r\n%b" % (len(HALF) + 1, HALF))


def _cut_with_a_length(talk: Talk) -> None:
    talk.send_head(Transfer_Encoding="", Content_Length=str(len(HALF) + 1))
    talk.send(HALF)


def _bad_chunk(talk: Talk) -> None:
    talk.send_head()
    talk.send_chunk(HALF)
    talk.send(b"not a chunk size\r\n")
    talk.wait_for_end()


def _reset(talk: Talk) -> None:
    _cut_chunked(talk)
    wait_until_received(talk)
    talk.reset()


@pytest.mark.parametrize(
    "breaks", [_cut_chunked, _cut_within_a_chunk, _cut_with_a_length, _bad_chunk, _reset]
)
def test_what_came_before_a_break_comes_out_before_the_error(breaks: Handler) -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        breaks(talk)

    with serve(handle) as client:
        for _ in range(5):
            received, error = receive_until_error(client)
            assert received == HALF
            assert type(error) is SlaveUnreachable


@pytest.mark.parametrize("end", [Talk.close, Talk.reset])
def test_a_slave_that_breaks_off_before_the_request_was_sent(end: Handler) -> None:
    """Writing fails first; the response of the slave must not be lost."""

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(HALF)
        wait_until_received(talk)
        end(talk)

    with serve(handle) as client:
        for _ in range(20):
            body = Endless()
            received, error = receive_until_error(client, body.body, pause_s=0.001)
            assert received == HALF
            assert type(error) is SlaveUnreachable
            assert body.closed.is_set()


def test_a_slave_that_refuses_without_reading() -> None:
    """Its kernel resets the connection, as request bytes are unread; the reason still arrives."""

    def handle(talk: Talk) -> None:
        talk.read_head()
        detail = json.dumps({"detail": "only JSON here"}).encode()
        talk.send_whole("415 Unsupported", detail, Content_Type="application/problem+json")

    with serve(handle) as client:
        for _ in range(40):
            body = Endless()
            with pytest.raises(
                SlaveRefused, match=r"alpha .*: answered 415: only JSON here$"
            ) as no:
                exchange(client, body.body)
            assert no.value.answered == 415
            assert body.closed.is_set()


def _endless_header(talk: Talk) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        talk.send(b"x" * 65_536)


def _endless_headers(talk: Talk) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        talk.send(b"X: y\r\n" * 1000)


@pytest.mark.parametrize("say", [say_garbage, _endless_header, _endless_headers])
def test_what_is_not_http(say: Handler) -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        say(talk)

    with serve(handle) as client:
        before = read_rss()
        with pytest.raises(AnswerInvalid, match="is not HTTP"):
            exchange(client)
        assert read_rss() - before < 8 * 2**20


def test_a_connection_closed_without_an_answer() -> None:
    with serve(read_all) as client, pytest.raises(SlaveUnreachable, match="without a response"):
        exchange(client)
