"""Any one value, type, digit, order or key that is changed changes the canonical bytes."""

from __future__ import annotations

from random import Random

from hypothesis import assume, given

from portable_core import canonicalize
from tests.support.laws.payloads import Json, change, exact, payloads, randoms, spell


@given(payloads(), randoms())
def test_a_change_shows(value: Json, random: Random) -> None:
    changed = change(value, random)
    assume(isinstance(changed, dict))
    same = exact(value) == exact(changed)
    assert (canonicalize(spell(value)) == canonicalize(spell(changed, random))) is same
