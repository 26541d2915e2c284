"""The feed: lines that carry payloads exactly, and the closing line."""

from __future__ import annotations

import json

import pytest

from portable_core.errors import AnswerInvalid, BadRequest
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.webhooks.feed import (
    decode_line,
    encode_feed,
    encode_line,
    parse_position,
)

META = Meta("github", {"content-type": "application/json"})


@pytest.mark.parametrize(
    "payload", [b'{"a":1}', b'{\r\n "a":\n1 }', rb'{"a":"\n\ud83d"}', b'{"a":1e400}', b"\xff"]
)
def test_a_line_is_one_line_and_exact(payload: bytes) -> None:
    record = Record(Pair(5, 7), payload, META, Recovery("slave-1", 9))
    line = encode_line(record)
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    document = json.loads(line)
    if "data" in document:
        assert document["data"] == json.loads(payload)
    assert decode_line(encode_line(record, raw=True)) == record


@pytest.mark.parametrize(("key", "shown"), [("", None), ("0f" * 16, "0f" * 16)])
def test_a_line_has_the_stored_key(key: str, shown: str | None) -> None:
    record = Record(Pair(5, 7), b"{}", Meta("github", query="a=b", key=key))
    document = json.loads(encode_line(record))
    assert (document["key"], document["meta"]["query"]) == (shown, "a=b")
    assert decode_line(encode_line(record, raw=True)) == record


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "truncated"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "recursion"),
        (b"[1]", "must be object"),
        (b"{}", "id: missing"),
        (b'{"id":"1-2"}', "raw: missing"),
        (b'{"id":"1-2","raw":"!"}', "(?i)base64"),
        (b'{"id":"x","raw":""}', "'x'"),
        (b'{"id":"1-2","raw":"","meta":{"headers":1}}', "meta.headers: must be object"),
        (b'{"id":"1-2","raw":"","recovery":{"slave":"a","at":-1}}', "recovery.at: must be int"),
    ],
)
def test_an_invalid_line_is_named(line: bytes, message: str) -> None:
    with pytest.raises(AnswerInvalid, match=message):
        decode_line(line)


@pytest.mark.parametrize(
    ("since", "limit", "count", "position"),
    [
        ("0", None, 3, "90"),
        ("0", 4, 3, "90"),
        ("0", 3, 3, "7-5"),
        ("0", 2, 2, "6-5"),
        ("0", 0, 0, "0"),
        ("6-5", None, 1, "90"),
        ("90-1", None, 0, "90-1"),
        ("91", None, 0, "91"),
    ],
)
def test_the_closing_line_has_the_position_from_which_to_continue(
    since: str, limit: int | None, count: int, position: str
) -> None:
    first = parse_position(since)
    pairs = [pair for pair in (Pair(5, 5), Pair(6, 5), Pair(7, 5)) if pair >= first]
    records = [Record(pair, b"{}", META) for pair in pairs]
    *lines, closing = encode_feed(records, since, 90, limit)
    assert [json.loads(line)["timestamp"] for line in lines] == [p.timestamp for p in pairs[:count]]
    assert closing == b'{"end":true,"since":"%b"}\n' % position.encode()


def test_positions() -> None:
    assert parse_position("17") == Pair(17, 0)
    assert parse_position("17-3") == Pair(17, 4)
    for text in ("yesterday", "", "-1", "١", "9" * 5000, str(2**53)):
        with pytest.raises(BadRequest):
            parse_position(text)
