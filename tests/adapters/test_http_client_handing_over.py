"""The client of a slave that hands its records over to the master, before it is stopped."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest

from portable_core.adapters.http.client import HttpMasterClient
from portable_core.errors import HandOverFailed
from portable_core.sync.report import HandOverReport
from tests.support.nodes.hostile_slave import MSGPACK, HostileSlave, Talk
from tests.support.nodes.http_clients import TOKEN


def test_hand_over() -> None:
    heads: list[bytes] = []

    def handle(talk: Talk) -> None:
        heads.append(talk.read_head())
        size = sum(map(len, talk.read_body()))
        body = json.dumps({"received": size, "saved": 3, "represented": 2, "set_aside": 1}).encode()
        talk.send_whole("200 OK", body, Content_Type="application/json; charset=utf-8")

    with (
        HostileSlave(handle) as master,
        HttpMasterClient("alpha", master.url, lambda: TOKEN) as client,
    ):
        answer = client.hand_over((b"x" * 1000 for _ in range(1000)), MSGPACK, 20)
    assert answer == HandOverReport(1_000_000, 3, 2, 1)
    assert heads[0].startswith(b"POST /records?slave=alpha HTTP/1.1\r\n")
    for line in (b"Content-Type: application/vnd.msgpack", b"Accept: application/json"):
        assert line in heads[0]


def test_hand_over_that_fails() -> None:
    closed: list[str] = []

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.append(threading.current_thread().name)

    def refuse(talk: Talk) -> None:
        talk.read_head()
        problem = b'{"title":"Stopping","detail":"a payload"}'
        talk.send_whole("503 Busy", problem, Content_Type="application/problem+json")

    def refuse_plainly(talk: Talk) -> None:
        talk.read_head()
        talk.send_whole("400 Bad", b"a payload", Content_Type="text/plain")

    def list_only(talk: Talk) -> None:
        talk.read_head()
        talk.send_whole("200 OK", b"[]", Content_Type="application/json")

    def hand_over(url: str, timeout_s: float = 20.0) -> str:
        with (
            HttpMasterClient("alpha", url, dict) as client,
            pytest.raises(HandOverFailed) as failed,
        ):
            client.hand_over(body(), MSGPACK, timeout_s)
        return str(failed.value)

    with HostileSlave(refuse) as master:
        assert re.fullmatch(r"master \(.*\): answered 503: Stopping", hand_over(master.url))
    with HostileSlave(refuse_plainly) as master:
        assert re.fullmatch(r"master \(.*\): answered 400", hand_over(master.url))
    with HostileSlave(list_only) as master:
        assert "POST /records: must be object" in hand_over(master.url)
    with HostileSlave(lambda talk: talk.wait_for_end()) as master:
        # It reads for ever: there is no silence, only a limit of the whole.
        assert "timeout: not complete in time" in hand_over(master.url, 0.5)
    assert closed == ["http-body"] * 4
    assert "Is the node running?" in hand_over("http://127.0.0.1:1")
