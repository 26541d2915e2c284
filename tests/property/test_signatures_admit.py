"""What was signed is admitted; one bit changed in body, secret or signature, and it is not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import Unauthorized
from portable_core.sources.schemes import sign
from portable_core.sources.signatures import parse_sources

keys = st.binary(min_size=1, max_size=64)
bodies = st.binary(max_size=200)
times = st.integers(0, 10**13)


def name_secret(key: bytes) -> str:
    """A secret that every scheme accepts."""
    return "whsec_" + base64.b64encode(key).decode()


def flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("form", ["github", "stripe", "standard", "hmac-sha256@X-Signature"])
@given(key=keys, body=bodies, now_ms=times, bit=st.integers(0, 511), data=st.data())
def test_signed(
    form: str, key: bytes, body: bytes, now_ms: int, bit: int, data: st.DataObject
) -> None:
    signed = sign(f"{form}:{name_secret(key)}", body, now_ms // 1000, "msg.1")

    def admits(key: bytes = key, body: bytes = body, signed: dict[str, str] = signed) -> bool:
        sources = parse_sources(f"s={form}:{name_secret(key)}")
        try:
            sources.verify("s", lambda name: [signed[name]], body, now_ms)
        except Unauthorized:
            return False
        return True

    assert admits()
    assert not admits(key=flip(key, bit))
    assert not admits(body=body + b"\0")
    if body:
        assert not admits(body=flip(body, bit))
    # One character of a header replaced by another that means something else.
    name = data.draw(st.sampled_from(sorted(signed)))
    value = signed[name]
    place = data.draw(st.integers(0, len(value) - 1))
    old = value[place]
    new = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = {**signed, name: value[:place] + new + value[place + 1 :]}
    if new.lower() != old.lower() and not (name.endswith("signature") and place > len(value) - 3):
        assert not admits(signed=changed)
