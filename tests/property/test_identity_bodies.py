"""Identities of bodies that are not JSON objects: arrays, forms, any bytes."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import MalformedPayload
from portable_core.ingest.identifier import Identifier
from portable_core.payload_hash.coding import MAX_UNPACKED_BYTES, unpack, unpack_for_people
from portable_core.payload_hash.identity import (
    DEFAULT_RULE,
    IdentityRule,
    Parts,
    identify,
    make_rule,
    parse_rule,
)
from portable_core.records import Meta, Pair, Record
from tests.property.test_identity_laws import headers, sources

JSON_RULE, BYTES_RULE = make_rule(body="json"), make_rule(body="bytes")
RULES = [
    JSON_RULE,
    BYTES_RULE,
    make_rule(without=["/a"], body="json"),
    make_rule(id=["header:x-id"], body="bytes"),
    make_rule(id=["form:a", "query:q"], body="bytes"),
    make_rule(id=["body:/0/a"], body="json"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "é", "1:"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)
BODIES = (
    VALUES.map(lambda value: json.dumps(value).encode())
    | VALUES.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False).encode())
    | st.binary(max_size=12)
    | st.sampled_from([b"", b"a=1&b=2", b"a=1&a=1", b"<a/>", b"[1e400]", b"[%d]" % 10**30])
)


def value_of(body: bytes) -> object:
    """The parsed value, with types that compare as JSON does; None for what is not JSON."""
    try:
        return repr(json.loads(body.decode(), parse_float=lambda text: f"float {text}"))
    except ValueError:
        return None


@given(sources, sources, BODIES, BODIES)
def test_bodies_count_by_value_or_by_bytes(
    source: str, other_source: str, body: bytes, other: bytes
) -> None:
    one, two = Parts(source, {}, "", body), Parts(other_source, {}, "", other)
    if body and other:
        same = (source, body) == (other_source, other)
        assert (identify(BYTES_RULE, one) == identify(BYTES_RULE, two)) is same
    values = value_of(body), value_of(other)
    if None not in values:
        first, second = identify(JSON_RULE, one), identify(JSON_RULE, two)
        ordered = [json.dumps(json.loads(b), sort_keys=True) for b in (body, other)]
        small = b"0" * 20 not in body + other and b"e" not in (body + other).lower()
        if small:
            assert (first == second) is (source == other_source and ordered[0] == ordered[1])


@given(st.sampled_from(RULES), sources, headers(), st.sampled_from(["", "q=1", "q=2"]), BODIES)
def test_a_record_is_checked_under_the_rule_that_it_names(
    rule: IdentityRule, source: str, given_headers: dict[str, str], query: str, body: bytes
) -> None:
    identifier = Identifier("crc32c", b"", {source: rule})
    try:
        hash_, meta = identifier.identify(body, Meta(source, given_headers, query))
    except MalformedPayload:
        assert rule.body == "json" or not body
        return
    record = Record(Pair(1, hash_), body, meta)
    Identifier("crc32c", b"", {}).check(record)  # as a master without this rule
    if rule.body == "bytes" and not rule.id:
        altered = Record(Pair(1, hash_), body + b"0", meta)
        with pytest.raises(MalformedPayload):
            Identifier("crc32c", b"", {}).check(altered)


@given(sources, headers(), st.dictionaries(st.sampled_from("ab"), VALUES))
def test_an_object_has_its_default_identity_where_any_value_may_come(
    source: str, given_headers: dict[str, str], value: dict[str, object]
) -> None:
    parts = Parts(source, given_headers, "", json.dumps(value).encode())
    assert identify(JSON_RULE, parts) == identify(DEFAULT_RULE, parts)


def test_no_body_has_an_identity_only_by_values() -> None:
    rule = make_rule(id=["header:x-goog-message-number"], body="bytes")
    one, two = (Parts("s", {"x-goog-message-number": n}, "", b"") for n in "12")
    assert identify(rule, one) != identify(rule, two)
    for parts in (Parts("s", {}, "", b""), Parts("s", {"x-goog-message-number": ""}, "", b"")):
        with pytest.raises(MalformedPayload, match="the payload is empty"):
            identify(rule, parts)


def test_values_come_from_forms() -> None:
    rule = make_rule(id=["form:MessageSid", "form:MessageStatus"], body="bytes")
    document = identify(rule, Parts("s", {}, "", b"MessageStatus=sent&MessageSid=SM1&To=%2B1"))
    assert document == identify(rule, Parts("s", {}, "", b"MessageSid=SM1&MessageStatus=%73ent"))
    other = identify(rule, Parts("s", {}, "", b"MessageSid=SM1&MessageStatus=delivered"))
    assert document != other


def test_a_byte_order_mark_does_not_count() -> None:
    for rule in (DEFAULT_RULE, JSON_RULE, make_rule(without=["/a"])):
        plain = Parts("s", {}, "", b'{"b":1}')
        assert identify(rule, plain) == identify(rule, Parts("s", {}, "", b'\xef\xbb\xbf{"b":1}'))


@pytest.mark.parametrize("body", [b"", b" ", b"[1", b"[1]x", b"NaN", b"\xff", b'["\x00"]', b"{"])
def test_what_is_not_json_is_refused_where_json_must_come(body: bytes) -> None:
    with pytest.raises(MalformedPayload):
        identify(JSON_RULE, Parts("s", {}, "", body))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_with_a_body_is_read_back_from_its_text(rule: IdentityRule) -> None:
    assert parse_rule(rule.text) == rule
    assert rule.text.startswith('{"body":')


def test_rules_of_other_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match="body: must be one of"):
        make_rule(body="xml")
    with pytest.raises(ValueError, match="without needs a body that is JSON"):
        make_rule(without=["/a"], body="bytes")


def test_gzip_does_not_count() -> None:
    body = b'{"b":1,"a":[1,2]}'
    for rule in (DEFAULT_RULE, JSON_RULE, BYTES_RULE, make_rule(without=["/a"])):
        plain = identify(rule, Parts("s", {}, "", body))
        for level in (0, 1, 9):
            packed = gzip.compress(body, level)
            assert identify(rule, Parts("s", {"content-encoding": "gzip"}, "", packed)) == plain
    assert packed != body


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "gzip that was cut"),
        (b'{"a":1}', "is not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-1], "gzip that was cut"),
        (gzip.compress(b"{}", mtime=0) + b"x", "continues after the gzip file"),
        (gzip.compress(b"{}", mtime=0) * 2, "continues after the gzip file"),
        (gzip.compress(bytes(MAX_UNPACKED_BYTES + 1), mtime=0), "unpacks to more than"),
        (gzip.compress(b"{", mtime=0), "ends too early"),
    ],
)
def test_wrong_gzip_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(MalformedPayload, match=message):
        identify(DEFAULT_RULE, Parts("s", {"content-encoding": "gzip"}, "", payload))


@given(st.binary(max_size=60))
def test_any_bytes_are_gzip_or_refused(payload: bytes) -> None:
    with suppress(MalformedPayload):
        assert len(unpack(payload)) <= MAX_UNPACKED_BYTES
    assert unpack_for_people(payload) is not None
