"""Canonical bytes are a payload, and their own canonical bytes."""

from __future__ import annotations

from random import Random

from hypothesis import given

from portable_core import canonicalize
from tests.support.laws.payloads import Json, payloads, randoms, spell


@given(payloads(), randoms())
def test_canonical_bytes_are_a_fixed_point(value: Json, random: Random) -> None:
    canonical = canonicalize(spell(value, random))
    assert canonicalize(canonical) == canonical
