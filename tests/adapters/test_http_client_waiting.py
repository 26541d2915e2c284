"""The HTTP client calls back while it waits, so that its caller is never deaf."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.nodes.hostile_slave import HostileSlave, Talk
from tests.support.nodes.http_clients import ask, connect, read_all


class Enough(Exception):
    """What the caller raises once it has been called ``times``."""


class Caller:
    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            raise Enough


def _stay_silent(talk: Talk) -> None:
    read_all(talk)
    talk.wait_for_end()


def _fall_silent(talk: Talk) -> None:
    read_all(talk)
    talk.send_head()
    talk.send_chunk(b"some")
    talk.wait_for_end()


def test_before_the_answer() -> None:
    with HostileSlave(_stay_silent) as slave, connect(slave.url) as client:
        caller = Caller(2)
        with (
            pytest.raises(Enough),
            client.exchange(replace(ask(), keep_waiting=caller)),
        ):
            raise AssertionError("there was no answer")
        slave.wait()  # the connection was closed from here
        assert caller.left == 0


def test_within_the_answer() -> None:
    with HostileSlave(_fall_silent) as slave, connect(slave.url) as client:
        with client.exchange(replace(ask(), keep_waiting=Caller(2))) as answer:
            assert next(answer.chunks) == b"some"
            with pytest.raises(Enough):
                next(answer.chunks)
        slave.wait()


def test_while_a_slave_is_asked_what_it_is() -> None:
    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.wait_for_end()

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        with pytest.raises(Enough):
            client.describe(Caller(2))
        slave.wait()
