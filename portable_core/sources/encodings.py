"""How senders write digests, keys and times."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from portable_core.errors import Unauthorized

EncodingName = Literal["hex", "base64", "base64-unpadded", "base64url", "base64url-unpadded"]
KeyEncoding = Literal["text", "hex", "base64", "whsec"]
TimeUnit = Literal["s", "ms", "iso8601"]

WHSEC = "whsec_"

_NUMBER = re.compile(r"[0-9]{1,15}")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)"
)


class Encoding(NamedTuple):
    """``decode`` returns None for any text that ``encode`` does not return."""

    encode: Callable[[bytes], str]
    decode: Callable[[str], bytes | None]


_match_hex = re.compile(r"(?:[0-9A-Fa-f]{2})++").fullmatch


def _decode_hex(text: str) -> bytes | None:
    return bytes.fromhex(text) if _match_hex(text) else None


def _make_base64(*, url: bool, padded: bool) -> Encoding:
    alphabet = "A-Za-z0-9_-" if url else "A-Za-z0-9+/"
    characters = re.compile(f"[{alphabet}]+")

    def encode(raw: bytes) -> str:
        text = (base64.urlsafe_b64encode if url else base64.b64encode)(raw).decode()
        return text if padded else text.rstrip("=")

    def decode(text: str) -> bytes | None:
        bare = text.rstrip("=")
        padding = -len(bare) % 4
        if padding == 3 or not characters.fullmatch(bare):
            return None
        if len(text) - len(bare) != (padding if padded else 0):
            return None
        return base64.b64decode(bare + "=" * padding, b"-_" if url else None)

    return Encoding(encode, decode)


ENCODINGS: Mapping[EncodingName, Encoding] = {
    "hex": Encoding(bytes.hex, _decode_hex),
    "base64": _make_base64(url=False, padded=True),
    "base64-unpadded": _make_base64(url=False, padded=False),
    "base64url": _make_base64(url=True, padded=True),
    "base64url-unpadded": _make_base64(url=True, padded=False),
}


def encode_secret(secret: str) -> bytes:
    """Encode as UTF-8; bytes of the environment that are not UTF-8 stay as they were (PEP 383)."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("has a secret that is not text") from None


def decode_key(secret: str, encoding: KeyEncoding) -> bytes:
    """Return the key that a secret stands for. Raises ``ValueError`` with the end of a sentence."""
    if encoding == "text":
        return encode_secret(secret)
    if encoding == "hex":
        key = _decode_hex(secret)
        if key is None:
            raise ValueError("needs a secret of hexadecimal digits")
        return key
    text = secret.removeprefix(WHSEC) if encoding == "whsec" else secret
    bare = text.rstrip("=")  # some senders show a key without padding, and their library accepts it
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoding == "whsec" and (text == secret or not key):
        raise ValueError(f"needs a secret of {WHSEC} and base64")
    if not key:
        raise ValueError("needs a secret in base64")
    return key


def check_time(name: str, text: str, unit: TimeUnit, tolerance_s: int, now_ms: int) -> None:
    """Raise ``Unauthorized`` for a timestamp that is malformed or too far from this node's time."""
    timestamp_ms = _read_time(name, text, unit)
    if abs(now_ms - timestamp_ms) > tolerance_s * 1000:
        raise Unauthorized(
            f"{name}: signed more than {tolerance_s} s before or after this node's time; the "
            "request is old, or one of the two clocks is wrong"
        )


def format_time(timestamp_s: int, unit: TimeUnit) -> str:
    """Return a time in seconds since the Unix epoch as a sender with this unit writes it."""
    if unit == "iso8601":
        return datetime.fromtimestamp(timestamp_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(timestamp_s if unit == "s" else timestamp_s * 1000)


def _read_time(name: str, text: str, unit: TimeUnit) -> int:
    if unit == "iso8601":
        match = _ISO.fullmatch(text)
        try:
            if match is not None:
                moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
                return int(moment.timestamp()) * 1000 + int((match[2] or "")[:3].ljust(3, "0"))
        except ValueError:  # month 13
            pass
        raise Unauthorized(f"{name}: its timestamp is not a UTC time in ISO 8601")
    if not _NUMBER.fullmatch(text):
        words = {"s": "seconds", "ms": "milliseconds"}[unit]
        raise Unauthorized(f"{name}: its timestamp is not a whole number of {words}")
    return int(text) * (1000 if unit == "s" else 1)
