"""Payloads as text: values are found decoded, and indentation changes only white space."""

from __future__ import annotations

import gzip
import json

import pytest

from portable_core.webhooks.payload_text import contains_value, indent, preview

PAYLOAD = (
    rb'{"key":"a \"quoted\" caf\u00e9","n":-1.50e3,"t":true,"z":null,"l":["x",{"deep":"K\\"}]}'
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('a "quoted"', True),
        ("café", True),
        ("K\\", True),
        ("-1.50e3", True),
        ("true", True),
        ("null", True),
        ("x", True),
        ("key", False),
        ("deep", False),
        ("1.50", False),
        ("tru", False),
        (",", False),
        ("X", False),
    ],
)
def test_values_are_searched_and_keys_are_not(wanted: str, found: bool) -> None:
    assert contains_value(PAYLOAD, wanted) is found


def test_lone_surrogates_and_depth_are_allowed() -> None:
    assert contains_value(rb'{"a":"\ud83d!"}', "!")
    deep = b'{"a":' * 3000 + b'"needle"' + b"}" * 3000
    assert contains_value(deep, "needle")
    assert len(indent(deep, 10_000_000)[0]) < len(deep) * 40


def test_indentation_is_that_of_the_json_module() -> None:
    documents: list[dict[str, object]] = [
        {},
        {"a": []},
        {"a": [1, {"b": [[], {}, 'x,]{\\"']}], "c": "d: e"},
    ]
    for document in documents:
        text, whole = indent(json.dumps(document, separators=(",", ":")).encode(), 10**6)
        assert (text, whole) == (json.dumps(document, indent=2), True)


def test_indentation_keeps_the_tokens() -> None:
    sent = rb'{ "a" : 1.0, "a":1e400, "b":"\u003c" }'
    assert indent(sent, 10**6)[0] == '{\n  "a": 1.0,\n  "a": 1e400,\n  "b": "\\u003c"\n}'


def test_only_the_start_is_indented() -> None:
    text, whole = indent(b'{"a":[%b]}' % b",".join([b"1"] * 100_000), 500)
    assert (len(text), whole) == (500, False)


def test_a_preview_is_one_short_line() -> None:
    assert preview(b'{\n  "a": 1\n}') == '{ "a": 1 }'
    assert len(preview(b'{"a":"%b"}' % (b"\xc3\xa9" * 5000))) <= 161


@pytest.mark.parametrize(
    "payload", [b"From=%2B1&Body=hello", b"<a>hello, [x]</a>", b"\xff\xfe hello", b"", b'"a"']
)
def test_what_is_not_json_is_shown_and_searched_as_text(payload: bytes) -> None:
    text = payload.decode("utf-8", "replace")
    assert indent(payload, 1000) == (text, True)
    assert indent(payload, 3) == (text[:3], len(text) <= 3)
    assert contains_value(payload, "hello") is (b"hello" in payload)


def test_an_array_and_a_byte_order_mark_are_json() -> None:
    assert indent(b'[{"a":1}]', 100)[0] == '[\n  {\n    "a": 1\n  }\n]'
    assert contains_value(b'\xef\xbb\xbf{"key":"value"}', "value")
    assert not contains_value(b'\xef\xbb\xbf{"key":"value"}', "key")


def test_gzip_is_shown_and_searched_unpacked() -> None:
    packed = gzip.compress(b'{"a":"needle"}')
    assert contains_value(packed, "needle")
    assert indent(packed, 100)[0] == '{\n  "a": "needle"\n}'
    assert preview(packed) == '{"a":"needle"}'
