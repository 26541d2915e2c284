"""JSON Web Tokens (RFC 7519) in the compact form of RFC 7515: read them, check their signatures."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import ENCODINGS
from portable_core.sources.public_key import make_verify

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256"]

#: Largest difference between this node's clock and the sender's, in seconds.
CLOCK_SKEW_S = 10

_HMAC: Mapping[Algorithm, str] = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_PUBLIC: Mapping[Algorithm, Any] = {"RS256": "rsa-sha256", "ES256": "ecdsa-p256-sha256"}

#: Length of each half of a signature of ES256 (RFC 7518, section 3.4).
_HALF = 32

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose signature is not verified yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def parse_token(name: str, text: str, algorithm: Algorithm) -> Token:
    """Return the token of the value ``name``. Raises ``Unauthorized``.

    ``algorithm`` is the only one that is accepted: neither ``none`` nor a public key as the secret
    of an HMAC.
    """
    parts = text.split(".")
    raw = [ENCODINGS["base64url-unpadded"].decode(part) for part in parts]
    if len(parts) != 3 or not all(raw):
        raise Unauthorized(f"{name}: not a JSON Web Token")
    try:
        header, claims = _decode(raw[0] or b""), _decode(raw[1] or b"")
    except (ValueError, RecursionError):
        raise Unauthorized(f"{name}: the token is malformed") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthorized(f"{name}: the token is malformed")
    if header.get("alg") != algorithm:
        raise Unauthorized(f"{name}: the token is not signed with {algorithm}")
    if "crit" in header:  # extensions, none of which is known (RFC 7515, section 4.1.11)
        raise Unauthorized(f"{name}: the token needs extensions that are not supported")
    signed = text.rpartition(".")[0].encode()
    return Token(header, claims, signed, raw[2] or b"")


def is_hmac(algorithm: Algorithm) -> bool:
    """Return whether both sides have the key of an algorithm."""
    return algorithm in _HMAC


def make_digest(key: bytes, signed: bytes, algorithm: Algorithm) -> bytes:
    """Return the HMAC of a token."""
    return hmac.digest(key, signed, _HMAC[algorithm])


def verify_hmac(token: Token, key: bytes, algorithm: Algorithm) -> bool:
    """Return whether a token is signed with a secret."""
    return hmac.compare_digest(make_digest(key, token.signed, algorithm), token.signature)


def verify_public(token: Token, pem: str, algorithm: Algorithm) -> bool:
    """Return whether a token is signed with a public key, which is PEM. Raises ``ValueError``."""
    signature = token.signature
    if algorithm == "ES256":
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        if len(signature) != 2 * _HALF:
            return False
        r, s = signature[:_HALF], signature[_HALF:]
        signature = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    return _load(pem, algorithm)(signature, token.signed)


@lru_cache(maxsize=64)
def _load(pem: str, algorithm: Algorithm) -> Callable[[bytes, bytes], bool]:
    return make_verify(pem, _PUBLIC[algorithm])


def check_times(name: str, claims: Mapping[str, Any], now_s: float) -> None:
    """Raise ``Unauthorized`` for a token that is not valid now.

    ``exp`` must be there; ``nbf`` and ``iat`` count where they are (RFC 7519, section 4.1).
    """
    times = {}
    for claim in ("exp", "nbf", "iat"):
        value = claims.get(claim, None if claim == "exp" else 0)
        is_time = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_time or not math.isfinite(value):
            raise Unauthorized(f"{name}: the token has no {claim} that is a time")
        times[claim] = value
    begins = max(times["nbf"], times["iat"])
    if not begins - CLOCK_SKEW_S <= now_s <= times["exp"] + CLOCK_SKEW_S:
        raise Unauthorized(
            f"{name}: the token has expired or is not valid yet; the request is old, or one of "
            "the two clocks is wrong"
        )
