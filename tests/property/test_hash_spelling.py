"""White space, escapes, surrogate pairs, zeros and exponents of numbers, keys that are overwritten:
no spelling changes anything."""

from __future__ import annotations

from random import Random

from hypothesis import given

from portable_core import canonicalize, hash_payload
from tests.support.laws.payloads import Json, exact, payloads, randoms, read, spell


@given(payloads(), randoms())
def test_spelling_changes_nothing(value: Json, random: Random) -> None:
    plain, odd = spell(value), spell(value, random)
    assert exact(read(plain)) == exact(read(odd)) == exact(value)  # the spellings are right
    assert canonicalize(plain) == canonicalize(odd)
    assert hash_payload(plain, "blake2b") == hash_payload(odd, "blake2b")
