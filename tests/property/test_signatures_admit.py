"""What was signed is admitted; one bit changed in body, secret or signature, and it is not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import Unauthorized
from portable_core.sources.signatures import (
    parse_sources,
    sign_github,
    sign_hmac,
    sign_standard,
    sign_stripe,
)


class Signer(NamedTuple):
    """One scheme: how it stands in the setting, and how one signs (secret, time, body)."""

    scheme: str
    sign: Callable[[str, int, bytes], dict[str, str]]


SIGNERS = [
    Signer("github", lambda secret, now_s, body: sign_github(secret, body)),
    Signer("stripe", sign_stripe),
    Signer("standard", lambda secret, now_s, body: sign_standard(secret, "msg.1", now_s, body)),
    Signer("hmac-sha256@X-Sig", lambda secret, now_s, body: sign_hmac(secret, "X-Sig", body)),
]

keys = st.binary(min_size=1, max_size=64)
bodies = st.binary(max_size=200)
times = st.integers(0, 10**13)


def name_secret(signer: Signer, key: bytes) -> str:
    return ("whsec_" if signer.scheme == "standard" else "") + base64.b64encode(key).decode()


def flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.scheme)
@given(key=keys, body=bodies, now_ms=times, bit=st.integers(0, 511), data=st.data())
def test_signed(
    signer: Signer, key: bytes, body: bytes, now_ms: int, bit: int, data: st.DataObject
) -> None:
    secret = name_secret(signer, key)
    signed = signer.sign(secret, now_ms // 1000, body)

    def admits(key: bytes = key, body: bytes = body, signed: dict[str, str] = signed) -> bool:
        sources = parse_sources(f"s={signer.scheme}:{name_secret(signer, key)}")
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
