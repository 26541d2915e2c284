"""Plain payloads survive readers that know only doubles, or 64 bits, or first keys."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import orjson
from hypothesis import given
from hypothesis import strategies as st

from portable_core.payload_hash.canonical import canonicalize, is_plain
from tests.support.laws.payloads import Json, floats, integers, payloads, randoms, spell


def write_like_javascript(value: Any) -> str:
    """Write as ``JSON.stringify`` does: a whole double has no fraction."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(key)}:{write_like_javascript(value[key])}" for key in value)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_like_javascript, value)) + "]"
    return json.dumps(value)


def keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def through_readers(payload: bytes) -> list[bytes]:
    text = payload.decode()
    doubles = json.loads(text, parse_int=float)
    return [
        write_like_javascript(doubles).encode(),
        json.dumps(json.loads(text)).encode(),
        json.dumps(json.loads(text, object_pairs_hook=keep_first)).encode(),
        orjson.dumps(orjson.loads(payload)),
        msgspec.json.encode(msgspec.json.decode(payload)),
    ]


texts = st.text(":a", max_size=2)
small = st.dictionaries(texts, st.one_of(texts, integers(), floats(), st.none()), max_size=2)


@given(small | payloads(), randoms())
def test_plain_payloads_survive_every_reader(value: Json, random: Random) -> None:
    payload = spell(value, random)
    if is_plain(payload):
        assert {canonicalize(copy) for copy in through_readers(payload)} == {canonicalize(payload)}
