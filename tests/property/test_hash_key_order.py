"""The order of keys, at every depth, changes nothing."""

from __future__ import annotations

from random import Random

from hypothesis import given

from portable_core import canonicalize, hash_payload
from tests.support.laws.payloads import Json, payloads, permute, randoms, spell


@given(payloads(), randoms())
def test_key_order_changes_nothing(value: Json, random: Random) -> None:
    one, other = spell(value), spell(permute(value, random))
    assert canonicalize(one) == canonicalize(other)
    assert hash_payload(one) == hash_payload(other)
