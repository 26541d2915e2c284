"""The laws of canonical bytes: equal for equal values, different for any change, and a fixed point.

An oracle reads payloads slowly and obviously, so "equal values" does not depend on the product.
"""

from __future__ import annotations

from random import Random

from hypothesis import assume, given

from portable_core import canonicalize, hash_payload
from tests.support.laws.payloads import (
    Json,
    change,
    exact,
    payloads,
    permute,
    randoms,
    read,
    spell,
)


def assert_ordered(value: Json) -> None:
    if isinstance(value, dict):
        assert list(value) == sorted(value)
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            assert_ordered(inner)


@given(payloads(), randoms())
def test_the_value_is_kept_exactly(value: Json, random: Random) -> None:
    payload = spell(value, random)
    canonical = canonicalize(payload)
    kept = read(canonical)
    assert exact(kept) == exact(read(payload)) == exact(value)
    assert_ordered(kept)
    assert spell(kept) == canonical


@given(payloads(), payloads())
def test_canonical_bytes_are_equal_if_and_only_if_the_values_are(one: Json, other: Json) -> None:
    equal = exact(one) == exact(other)
    assert (canonicalize(spell(one)) == canonicalize(spell(other))) is equal


@given(payloads(), randoms())
def test_any_change_of_value_type_digit_order_or_key_shows(value: Json, random: Random) -> None:
    changed = change(value, random)
    assume(isinstance(changed, dict))
    same = exact(value) == exact(changed)
    assert (canonicalize(spell(value)) == canonicalize(spell(changed, random))) is same


@given(payloads(), randoms())
def test_key_order_changes_nothing_at_any_depth(value: Json, random: Random) -> None:
    one, other = spell(value), spell(permute(value, random))
    assert canonicalize(one) == canonicalize(other)
    assert hash_payload(one) == hash_payload(other)


@given(payloads(), randoms())
def test_white_space_escapes_and_exponents_change_nothing(value: Json, random: Random) -> None:
    plain, odd = spell(value), spell(value, random)
    assert exact(read(plain)) == exact(read(odd)) == exact(value)  # the spellings are right
    assert canonicalize(plain) == canonicalize(odd)
    assert hash_payload(plain, "blake2b") == hash_payload(odd, "blake2b")


@given(payloads(), randoms())
def test_canonical_bytes_are_their_own_canonical_bytes(value: Json, random: Random) -> None:
    canonical = canonicalize(spell(value, random))
    assert canonicalize(canonical) == canonical
