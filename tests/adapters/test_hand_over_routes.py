"""``POST /records`` over the web application: who may, what is kept of it, how it is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from portable_core.settings import Settings
from portable_core.wire.negotiation import ENCODINGS
from portable_core.wiring import build_app
from tests.support.nodes.sync_nodes import make_record, now_ms

JSON = "application/json"
#: The report of a hand-over without records.
RECEIVED = dict.fromkeys(("received", "saved", "represented", "set_aside", "refused"), 0)
MSGPACK = "application/vnd.msgpack"


@pytest.fixture
def master(tmp_path: Path) -> Client:
    env = {
        "STORE": "memory:",
        "SYNC_TOKENS": "common",
        "SLAVES": "alpha=http://127.0.0.1:1,beta=http://127.0.0.1:1",
        "SLAVE_TOKENS": "alpha=alphas,beta=betas",
    }
    return Client(build_app(Settings.from_env("master", env)))


def hand_over(
    master: Client,
    body: bytes,
    *,
    query: str = "?slave=alpha",
    token: str = "common",
    media_type: str = JSON,
) -> TestResponse:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": media_type}
    return master.post(f"/records{query}", data=body, headers=headers)


def encode(count: int, media_type: str = JSON) -> bytes:
    now = now_ms()
    records = [make_record(number, now + number) for number in range(count)]
    return b"".join(ENCODINGS[media_type].encode_records(records))


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
def test_both_encodings(master: Client, media_type: str) -> None:
    body = encode(3, media_type)
    answer = hand_over(master, body, media_type=media_type)
    assert answer.status_code == 200
    assert answer.json == RECEIVED | {"received": 3, "saved": 3}
    again = hand_over(master, body, media_type=media_type)
    assert again.json == RECEIVED | {"received": 3, "represented": 3}


def test_no_records(master: Client) -> None:
    assert hand_over(master, b"[]").json == RECEIVED


def test_another_encoding(master: Client) -> None:
    assert hand_over(master, b"x", media_type="text/csv").status_code == 415


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
def test_what_came_before_a_cut_is_kept(master: Client, media_type: str) -> None:
    body = encode(3, media_type)
    answer = hand_over(master, body[:-2], media_type=media_type)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["type"] == "urn:webhook-sync:stream-cut"
    again = hand_over(master, body, media_type=media_type).json
    assert again is not None
    assert again["represented"] >= 2


def test_records_that_are_not_what_they_say_are_set_aside(master: Client) -> None:
    now = now_ms()
    wrong = {"hash": 1, "timestamp": now, "data": {}}
    future = make_record(1, now + 10**9)
    tomorrow = {
        "hash": future.pair.hash,
        "timestamp": future.pair.timestamp,
        "data": json.loads(future.payload),
    }
    answer = hand_over(master, json.dumps([wrong, tomorrow]).encode())
    assert answer.json == RECEIVED | {"received": 2, "set_aside": 2}


@pytest.mark.parametrize(
    ("query", "token", "status"),
    [
        ("?slave=alpha", "common", 200),
        ("?slave=alpha", "alphas", 200),
        ("?slave=alpha", "betas", 401),
        ("?slave=gamma", "common", 200),
        ("?slave=gamma", "alphas", 401),
        ("", "common", 200),
        ("", "alphas", 401),
        ("?slave=a%2Fb", "common", 400),
        ("?slave=", "common", 400),
    ],
)
def test_who_may(master: Client, query: str, token: str, status: int) -> None:
    assert hand_over(master, b"[]", query=query, token=token).status_code == status
