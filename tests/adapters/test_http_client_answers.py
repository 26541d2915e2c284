"""The HTTP client when the answer is a refusal, a redirect or something else altogether."""

from __future__ import annotations

import json
import re
import time

import pytest

from portable_core.errors import (
    AnswerInvalid,
    SlaveError,
    SlaveRefused,
    SlaveUnreachable,
)
from portable_core.sync.protocol import info_to_json
from tests.support.nodes.hostile_slave import UUID, HostileSlave, Talk
from tests.support.nodes.http_clients import INFO, echo, exchange, read_all, serve


def refuse(status: str, body: bytes, **headers: str) -> str:
    """The message for such an answer."""

    def handle(talk: Talk) -> None:
        read_all(talk)
        talk.send_whole(status, body, **headers)

    with serve(handle) as client, pytest.raises(SlaveRefused) as refused:
        exchange(client)
    assert refused.value.answered == int(status[:3])
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_refusals_in_words() -> None:
    problem = "application/problem+json"
    long = json.dumps({"detail": "why\x07 \u202e" + "y" * 9000, "title": "T"}).encode()
    assert re.search(
        r": answered 409: why y{290,300}$", refuse("409 C", long, Content_Type=problem)
    )
    assert re.search(
        r"401: <h1>Nope</h1>\. Is the same token in SYNC_TOKENS on both sides\?$",
        refuse("401 Unauthorized", b"<h1>\n Nope</h1>", Content_Type="text/html").replace(
            "> N", ">N"
        ),
    )
    page = b"<!doctype html>" + b"<p>sorry</p>\0\xff" * 10_000
    message = refuse("500 Oops", page, Content_Type="text/html")
    assert "answered 500: <!doctype html><p>sorry</p>" in message
    assert len(message) < 400
    assert refuse("404 Not Found", b"").endswith("of the right role?")
    assert refuse("500 Oops", b"{" * 5000, Content_Type=problem).endswith("{{{")
    assert refuse("500 Oops", b'["detail"]', Content_Type=problem).endswith(': ["detail"]')
    assert "answered 204" in refuse("204 No Content", b"", Content_Length="")
    assert "answered 206" in refuse("206 Partial Content", b"half")


def test_a_token_that_is_echoed_stays_secret() -> None:
    message = refuse("401 No", b"you sent Bearer correct-horse to me", Content_Type="text/plain")
    assert "you sent Bearer [secret] to me" in message
    assert "correct-horse" not in message


def test_an_endless_refusal() -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        talk.send_head("500 Oops", Content_Type="text/plain")
        while True:
            talk.send_chunk(b"no " * 1000)

    with (
        serve(handle) as client,
        pytest.raises(SlaveRefused, match=r"answered 500: no no no [no ]{285,295}$"),
    ):
        exchange(client)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved"])
def test_redirects_are_not_followed(status: str) -> None:
    with HostileSlave(echo) as other:

        def handle(talk: Talk) -> None:
            talk.read_head()
            talk.send_whole(status, b"", Location=f"{other.url}/sync?a=secret")

        with serve(handle) as client:
            for call in (lambda: exchange(client), client.describe):
                with pytest.raises(
                    SlaveRefused, match=r"a redirect to 127.0.0.1\. Redirects are not"
                ):
                    call()
        assert other.connections == 0


@pytest.mark.parametrize("location", ["", "/login", "http://[bad/", "::"])
def test_odd_redirects(location: str) -> None:
    assert "a redirect to" in refuse("302 Found", b"", Location=location)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content_Type": "text/html"}, "answered with text/html, not application/vnd.msgpack"),
        ({"Content_Type": "application/json"}, "answered with application/json, not"),
        ({"Content_Type": ""}, "answered with no type"),
        ({"Content_Encoding": "gzip"}, "with Content-Encoding gzip"),
        ({"Sync_Through": ""}, "0 headers Sync-Through"),
        ({"Sync_Through": "soon"}, "header Sync-Through: must be an integer"),
        ({"Sync_Through": "-1"}, "header Sync-Through: must be an integer"),
        ({"Sync_Through": "9007199254740992"}, "header Sync-Through: must be an integer"),
        ({"Sync_Store": ""}, "0 headers Sync-Store"),
        ({"Sync_Store": "nothing"}, "header Sync-Store: must be <uuid>/<generation>"),
        ({"Sync_Store": f"{UUID}/"}, "header Sync-Store: must be an integer"),
        ({"Sync_Store": "alpha/1"}, "header Sync-Store: must be <uuid>"),
        ({"X": f"y\r\nSync-Store: {UUID}/3"}, "2 headers Sync-Store"),
    ],
)
def test_a_200_of_something_else(headers: dict[str, str], message: str) -> None:
    def handle(talk: Talk) -> None:
        read_all(talk)
        talk.send_head(**headers)
        talk.end()

    with serve(handle) as client, pytest.raises(AnswerInvalid, match=re.escape(message)):
        exchange(client)


def describe_as(body: bytes) -> SlaveError:
    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_whole("200 OK", body, Content_Type="application/json")

    with serve(handle) as client, pytest.raises(SlaveError) as failed:
        client.describe()
    return failed.value


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 60_000, b"1" * 60_000, b'{"store":1}']
)
def test_describe_gets_something_else(body: bytes) -> None:
    assert type(describe_as(body)) is AnswerInvalid


def test_describe_names_the_member_at_fault() -> None:
    body = json.dumps(info_to_json(INFO) | {"horizon": -1}).encode()
    assert "GET /sync: horizon: must be int >= 0" in str(describe_as(body))


def test_describe_without_end() -> None:
    def flood(talk: Talk) -> None:
        talk.read_head()
        talk.send_head(Content_Type="application/json")
        while True:
            talk.send_chunk(b" " * 10_000)

    def drip(talk: Talk) -> None:
        talk.read_head()
        talk.send_head(Content_Type="application/json")
        while True:
            talk.send_chunk(b" ")
            time.sleep(0.01)

    with serve(flood) as client, pytest.raises(AnswerInvalid, match="more than 65536 bytes"):
        client.describe()
    with (
        serve(drip, idle_s=0.4) as client,
        pytest.raises(SlaveUnreachable, match="timeout: not complete in time"),
    ):
        client.describe()
