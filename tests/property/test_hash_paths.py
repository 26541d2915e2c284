"""The fast path returns the bytes of the exact one, for each payload that it handles."""

from __future__ import annotations

from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portable_core.demo.traffic import SAMPLES
from portable_core.payload_hash.canonical import canonicalize
from portable_core.payload_hash.exact import canonicalize_exactly, format_float
from tests.support.laws.payloads import (
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


def test_ordinary_payloads_never_need_the_exact_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("portable_core.payload_hash.canonical.canonicalize_exactly")
    for sample in sorted(SAMPLES.glob("*.json")):
        canonicalize(sample.read_bytes())
    canonicalize('{"x":[1.50,-0.0,1e5,18446744073709551615,-9223372036854775808,"é😀"]}'.encode())
    with pytest.raises(NameError):
        canonicalize(b'{"x":18446744073709551616}')


@given(values(surrogates=False), randoms())
def test_other_members_do_not_change_a_value(value: Json, random: Random) -> None:
    # A second member that only the exact path can hold must change nothing about the first.
    payload = spell({"a": value}, random)
    together = canonicalize(b'{"z":18446744073709551616,' + payload.strip()[1:])
    assert together == canonicalize(payload)[:-1] + b',"z":18446744073709551616}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_written_as_orjson_reads_it(number: float) -> None:
    assert orjson.loads(format_float(repr(number))) == number
