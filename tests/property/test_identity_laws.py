"""Two deliveries share an identity document only if their identities are equal.

The oracle reads a document back without the product's code, and compares what it reads with an
identity that it works out itself from the parsed payload, slowly.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from hashlib import blake2b
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portable_core.errors import MalformedPayload
from portable_core.payload_hash import canonical as module
from portable_core.payload_hash.canonical import canonicalize, canonicalize_parts
from portable_core.payload_hash.exact import canonicalize_exactly
from portable_core.payload_hash.identity import (
    DEFAULT_RULE,
    EVENT_HEADERS,
    IdentityRule,
    Parts,
    compute_key,
    identify,
    make_rule,
    parse_rule,
)
from portable_core.payload_hash.pointers import parse_pointer
from tests.support.laws.payloads import Json, exact, payloads, permute, randoms, read, spell

Fields = tuple[str, list[tuple[str, bytes]], bytes | None]

#: Names that payloads of the strategies below are likely to have.
KEYS = ["a", "b", "", "id", "a/b", "~", "é", "0", "\n", '"']


def escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def split(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def read_document(document: bytes) -> Fields:
    """The source, the values and the body of a document; the opposite of encoding one."""
    if document.startswith(b"{"):
        return "", [], document
    fields = []
    while document:
        length, _, rest = document.partition(b":")
        assert str(int(length)).encode() == length
        fields.append(rest[: int(length)])
        assert rest[int(length) : int(length) + 1] == b","
        document = rest[int(length) + 1 :]
    kind, source, *values = fields
    body = values.pop() if kind == b"json" else None
    assert kind in (b"json", b"id")
    assert len(values) % 2 == 0
    pairs = zip(values[::2], values[1::2], strict=True)
    return source.decode(), [(name.decode(), value) for name, value in pairs], body


# -- what the oracle makes of a delivery -----------------------------------------------------------


def find(value: Json, tokens: list[str]) -> list[Json]:
    """What is there, in a list of one; an empty list for nothing."""
    for token in tokens:
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token in map(str, range(len(value))):
            value = value[int(token)]
        else:
            return []
    return [value]


def without(value: Json, tokens: list[str]) -> Json:
    value = copy.deepcopy(value)
    for parent in find(value, tokens[:-1]):
        if isinstance(parent, dict):
            parent.pop(tokens[-1], None)
    return value


def expect(rule: IdentityRule, parts: Parts, value: Json) -> tuple[object, ...]:
    """The identity as something that compares as identities should."""
    default_values = [(n, parts.headers[n]) for n in sorted(EVENT_HEADERS) if parts.headers.get(n)]
    if rule.id:
        found = []
        for name in rule.id:
            kind, rest = name.split(":", 1)
            if kind == "header":
                items: list[object] = [parts.headers[rest]] if parts.headers.get(rest) else []
            else:
                items = [exact(item) for item in find(value, split(rest)) if item not in (None, "")]
            found += [(name, item) for item in items]
        if len(found) == len(rule.id):
            return "id", parts.source, found
        return "json", parts.source, default_values, exact(value)
    for text in rule.without:
        value = without(
            value, [t.replace("~1", "/").replace("~0", "~") for t in text[1:].split("/")]
        )
    return "json", parts.source, default_values, exact(value)


# -- strategies ------------------------------------------------------------------------------------


def pointers() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(
        lambda tokens: "".join(f"/{escape(token)}" for token in tokens)
    )


def rules() -> st.SearchStrategy[IdentityRule]:
    names = st.sampled_from(["header:x-id", "header:ce-id"]) | pointers().map("body:{}".format)
    return (
        st.just(DEFAULT_RULE)
        | st.lists(pointers(), min_size=1, max_size=3).map(lambda texts: make_rule(without=texts))
        | st.lists(names, min_size=1, max_size=3).map(lambda names: make_rule(id=names))
    )


def headers() -> st.SearchStrategy[Mapping[str, str]]:
    return st.dictionaries(
        st.sampled_from(["x-id", "ce-id", "ce-type", "x-github-event", "user-agent"]),
        st.text(st.characters(max_codepoint=255), max_size=3),
        max_size=3,
    )


def bodies() -> st.SearchStrategy[Json]:
    inner: st.SearchStrategy[Json] = st.recursive(
        st.none() | st.booleans() | st.sampled_from(["", "x", "1:", "}"]),
        lambda values: (
            st.lists(values, max_size=3)
            | st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
        ),
        max_leaves=8,
    )
    small = st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    return small | payloads()


sources = st.sampled_from(["", "a", "é", "1:a,"])


# -- the laws --------------------------------------------------------------------------------------


@given(rules(), sources, headers(), bodies(), randoms())
def test_a_document_holds_the_identity_and_nothing_else(
    rule: IdentityRule, source: str, given_headers: Mapping[str, str], body: Json, random: Random
) -> None:
    parts = Parts(source, given_headers, "", spell(body, random))
    kind, *expected = expect(rule, parts, body)
    found_source, values, found_body = read_document(identify(rule, parts))
    assert found_source == source == expected[0]
    decoded = [
        (name.removeprefix("header:"), value.decode())
        if name.startswith("header:") and kind == "json"
        else (
            name,
            exact(read(b'{"":%b}' % value)[""]) if name.startswith("body:") else value.decode(),
        )
        for name, value in values
    ]
    assert decoded == expected[1]
    assert (found_body is None) == (kind == "id")
    if found_body is not None:
        assert exact(read(found_body)) == expected[2]


@given(rules(), sources, sources, headers(), headers(), bodies(), bodies(), randoms())
def test_documents_are_equal_if_and_only_if_identities_are(
    rule: IdentityRule,
    source: str,
    other_source: str,
    some: Mapping[str, str],
    others: Mapping[str, str],
    body: Json,
    other_body: Json,
    random: Random,
) -> None:
    for one, two in (
        (Parts(source, some, "", spell(body)), Parts(other_source, others, "", spell(other_body))),
        (Parts(source, some, "", spell(body)), Parts(source, others, "", spell(body))),
        (Parts(source, some, "", spell(body)), Parts(source, some, "", spell(other_body))),
    ):
        values = read(one.payload), read(two.payload)
        equal = expect(rule, one, values[0]) == expect(rule, two, values[1])
        assert (identify(rule, one) == identify(rule, two)) is equal


@given(rules(), sources, headers(), bodies(), randoms())
def test_key_order_space_and_escapes_never_matter(
    rule: IdentityRule, source: str, given_headers: Mapping[str, str], body: Json, random: Random
) -> None:
    one = Parts(source, given_headers, "", spell(body, random))
    other = Parts(source, given_headers, "", spell(permute(body, random), random))
    assert identify(rule, one) == identify(rule, other)


@given(st.lists(pointers(), max_size=3), st.lists(pointers(), max_size=3), bodies(), randoms())
def test_both_paths_agree(
    select: list[str], removed: list[str], body: Json, random: Random
) -> None:
    payload = spell(body, random)
    chosen = [parse_pointer(text) for text in select], [parse_pointer(text) for text in removed]
    fast = canonicalize_parts(payload, *chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_load", canonicalize_exactly)  # never a dict: the exact path it is
        assert canonicalize_parts(payload, *chosen) == fast
    assert canonicalize_parts(payload, (), ()) == (canonicalize(payload), [])


@given(st.binary(max_size=40), rules())
def test_what_is_malformed_is_refused_under_every_rule(payload: bytes, rule: IdentityRule) -> None:
    assume(payload.strip()[:1] != b"{")
    with pytest.raises(MalformedPayload):
        identify(rule, Parts("a", {}, "", payload))


@given(bodies(), randoms())
def test_a_plain_webhook_is_identified_by_its_canonical_body(body: Json, random: Random) -> None:
    payload = spell(body, random)
    document = identify(DEFAULT_RULE, Parts("", {"user-agent": "x"}, "q=1", payload))
    assert document == canonicalize(payload)
    assert compute_key(document) == blake2b(document, digest_size=64).hexdigest()[:32]


@given(rules())
def test_a_rule_is_read_back_from_its_text(rule: IdentityRule) -> None:
    assert parse_rule(rule.text) == rule
