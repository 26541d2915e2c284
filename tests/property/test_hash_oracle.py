"""The canonical bytes mean exactly what the payload means, to a slow and obvious reader.

So two payloads with the same canonical bytes have the same value. The keys are in order at every
depth and nothing is written that need not be; so two payloads with the same value have the same.
"""

from __future__ import annotations

from random import Random

from hypothesis import given

from portable_core import canonicalize
from tests.support.laws.payloads import Json, exact, payloads, randoms, read, spell


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
