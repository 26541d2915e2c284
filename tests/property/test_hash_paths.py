"""The fast path gives what the exact one gives, wherever it gives anything."""

from __future__ import annotations

from random import Random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from portable_core.canonical import canonicalize
from portable_core.canonical_exact import canonicalize_exactly, format_float
from tests.property.payloads import (
    Json,
    Number,
    deep_payloads,
    floats,
    payloads,
    permute,
    randoms,
    spell,
    values,
)


@given(payloads(surrogates=False) | payloads(), randoms())
def test_both_paths_agree(value: Json, random: Random) -> None:
    payload = spell(value, random)
    assert canonicalize(payload) == canonicalize_exactly(payload)


@settings(max_examples=settings().max_examples // 10 + 1)
@given(deep_payloads(), randoms())
def test_both_paths_agree_on_deep_payloads(value: Json, random: Random) -> None:
    payload, other = spell(value, random), spell(permute(value, random), random)
    assert canonicalize(payload) == canonicalize_exactly(other)


@given(floats())
def test_numbers_agree(number: Number) -> None:
    payload = b'{"":%b}' % number.text.encode()
    assert canonicalize(payload) == b'{"":%b}' % format_float(number.text).encode()


@given(values(surrogates=False), randoms())
def test_the_path_depends_on_the_value_alone(value: Json, random: Random) -> None:
    # A second member that only the exact path can hold must change nothing about the first.
    payload = spell({"a": value}, random)
    together = canonicalize(b'{"z":18446744073709551616,' + payload.strip()[1:])
    assert together == canonicalize(payload)[:-1] + b',"z":18446744073709551616}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_written_as_orjson_reads_it(number: float) -> None:
    assert orjson.loads(format_float(repr(number))) == number
