"""The members that are named as different are those that differ, and removing them proves it."""

from __future__ import annotations

from random import Random

from hypothesis import given

from portable_core.payload_hash.canonical import canonicalize_parts
from portable_core.payload_hash.differences import find_differences
from portable_core.payload_hash.pointers import parse_pointer
from tests.support.laws.payloads import Json, change, exact, payloads, permute, randoms, spell


@given(payloads(surrogates=False), randoms())
def test_a_payload_does_not_differ_from_another_spelling_of_itself(
    value: Json, random: Random
) -> None:
    assert find_differences(spell(value), spell(permute(value, random))) == ()
    # A spelling may hold, under a repeated key, what no parser takes.
    assert find_differences(spell(value), spell(value, random)) in ((), None)


@given(payloads(surrogates=False), randoms())
def test_what_is_named_differs(value: Json, random: Random) -> None:
    other = change(value, random)
    found = find_differences(spell(value), spell(other))
    if found is None:
        return
    assert bool(found) == (exact(value) != exact(other))
    pointers = [parse_pointer(text) for text in found]
    _, left = canonicalize_parts(spell(value), pointers, ())
    _, right = canonicalize_parts(spell(other), pointers, ())
    assert all(one != another for one, another in zip(left, right, strict=True))
