"""The schemes by which senders sign webhooks: one row of :data:`SCHEMES` each.

All schemes are HMAC-SHA256 (RFC 2104, FIPS 180-4) over the body as it was received. They differ in
what else is signed and in their headers:

- ``github``: ``X-Hub-Signature-256: sha256=<hex>`` over the body (GitHub: Validating webhook
  deliveries).
- ``stripe``: ``Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`` over ``<seconds>.<body>``
  (Stripe: Verify webhook signatures manually). Elements of other names are ignored.
- ``standard``: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature:
  v1,<base64>[ v1,<base64>]`` over ``<id>.<seconds>.<body>`` (Standard Webhooks 1.0.0). The key is
  ``whsec_`` and base64. Signatures of other versions are ignored.
- ``hmac-sha256@Header-Name``: over the body, in that header, in hexadecimal (also after
  ``sha256=``) or base64.

Nothing here reads a clock: the time is an argument.
Whatever the headers contain, a webhook is either admitted or rejected with
:class:`~portable_core.errors.Unauthorized`; no message contains a secret, an expected signature or
part of the request.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from portable_core.errors import Unauthorized

#: All values of a header, in order, by its name in any case; an empty list for an absent header.
Headers = Callable[[str], list[str]]

#: Largest distance between a signed timestamp and the node's clock, in seconds: the tolerance of
#: the providers' own libraries. It limits how long a recorded request can be replayed.
STRIPE_TOLERANCE_S = 300
STANDARD_TOLERANCE_S = 300

#: Longest header with a signature; a longer one is rejected unread.
MAX_HEADER_CHARACTERS = 8192

#: The scheme that rejects every request.
CLOSED = "closed"

GITHUB_HEADER = "X-Hub-Signature-256"
STRIPE_HEADER = "Stripe-Signature"
STANDARD_ID_HEADER = "webhook-id"
STANDARD_TIMESTAMP_HEADER = "webhook-timestamp"
STANDARD_SIGNATURE_HEADER = "webhook-signature"

_STANDARD_PREFIX = "whsec_"

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}=")
_SECONDS = re.compile(r"[0-9]{1,15}")
_MESSAGE_ID = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class Scheme(Protocol):
    """One way to sign, with its secret. Its ``repr`` does not show the secret."""

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        """Return if the signature is right. Raises ``Unauthorized``."""
        ...

    def sign(self, body: bytes, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends ``body``. Raises ``ValueError``."""
        ...


@dataclass(frozen=True, slots=True)
class _Plain:
    """A signature of the body alone in ``header``; ``prefixed`` requires ``sha256=`` and hex."""

    header: str
    key: bytes = field(repr=False)
    prefixed: bool = False

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        digest = self._read(_get_only(headers, self.header))
        _compare(self.header, [digest], _digest(self.key, body))

    def sign(self, body: bytes, timestamp_s: int, message_id: str) -> dict[str, str]:
        return {self.header: "sha256=" * self.prefixed + _digest(self.key, body).hex()}

    def _read(self, value: str) -> bytes:
        text = value.removeprefix("sha256=")
        if _HEX.fullmatch(text) and (text != value or not self.prefixed):
            return bytes.fromhex(text)
        if _BASE64.fullmatch(value) and not self.prefixed:
            return base64.b64decode(value)
        form = "sha256= and 64 hexadecimal digits" if self.prefixed else "hexadecimal or base64"
        raise Unauthorized(f"{self.header}: not an HMAC-SHA256 in the form {form}")


@dataclass(frozen=True, slots=True)
class _Stripe:
    key: bytes = field(repr=False)

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        timestamps, digests = [], []
        for element in _get_only(headers, STRIPE_HEADER).split(","):
            name, _, value = element.strip().partition("=")
            if name == "t":
                timestamps.append(value)
            elif name == "v1" and _HEX.fullmatch(value):
                digests.append(bytes.fromhex(value))
        if len(timestamps) != 1:
            raise Unauthorized(f"{STRIPE_HEADER}: has {len(timestamps)} timestamps t=, not one")
        _check_time(STRIPE_HEADER, timestamps[0], now_ms, STRIPE_TOLERANCE_S)
        if not digests:
            raise Unauthorized(f"{STRIPE_HEADER}: has no signature v1= of 64 hexadecimal digits")
        _compare(STRIPE_HEADER, digests, _digest(self.key, body, f"{timestamps[0]}.".encode()))

    def sign(self, body: bytes, timestamp_s: int, message_id: str) -> dict[str, str]:
        digest = _digest(self.key, body, f"{timestamp_s}.".encode())
        return {STRIPE_HEADER: f"t={timestamp_s},v1={digest.hex()}"}


@dataclass(frozen=True, slots=True)
class _Standard:
    key: bytes = field(repr=False)

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        message_id = _get_only(headers, STANDARD_ID_HEADER)
        timestamp = _get_only(headers, STANDARD_TIMESTAMP_HEADER)
        signatures = _get_only(headers, STANDARD_SIGNATURE_HEADER)
        if not _MESSAGE_ID.fullmatch(message_id):
            raise Unauthorized(f"{STANDARD_ID_HEADER}: not printable ASCII without spaces")
        _check_time(STANDARD_TIMESTAMP_HEADER, timestamp, now_ms, STANDARD_TOLERANCE_S)
        digests = []
        for signature in signatures.split(" "):
            version, _, value = signature.partition(",")
            if version == "v1" and _BASE64.fullmatch(value):
                digests.append(base64.b64decode(value))
        if not digests:
            raise Unauthorized(f"{STANDARD_SIGNATURE_HEADER}: has no signature v1,<base64>")
        expected = _digest(self.key, body, f"{message_id}.{timestamp}.".encode())
        _compare(STANDARD_SIGNATURE_HEADER, digests, expected)

    def sign(self, body: bytes, timestamp_s: int, message_id: str) -> dict[str, str]:
        if not _MESSAGE_ID.fullmatch(message_id):
            raise ValueError("a message id must be printable ASCII without spaces")
        digest = _digest(self.key, body, f"{message_id}.{timestamp_s}.".encode())
        return {
            STANDARD_ID_HEADER: message_id,
            STANDARD_TIMESTAMP_HEADER: str(timestamp_s),
            STANDARD_SIGNATURE_HEADER: f"v1,{base64.b64encode(digest).decode()}",
        }


@dataclass(frozen=True, slots=True)
class _Closed:
    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        raise Unauthorized("this address accepts no webhooks; check the name of the source")

    def sign(self, body: bytes, timestamp_s: int, message_id: str) -> dict[str, str]:
        raise ValueError("nothing can be sent to a source that is closed")


class SchemeRow(NamedTuple):
    """``parameter`` is the name of what follows ``@``, empty if nothing does.

    ``make(parameter, secret)`` raises ``ValueError`` with the end of a sentence.
    """

    name: str
    parameter: str
    make: Callable[[str, str], Scheme]

    @property
    def form(self) -> str:
        return f"{self.name}@{self.parameter}" if self.parameter else self.name


#: The schemes that have a secret.
SCHEMES: Mapping[str, SchemeRow] = {
    row.name: row
    for row in (
        SchemeRow("github", "", lambda _, s: _Plain(GITHUB_HEADER, _encode_secret(s), True)),
        SchemeRow("stripe", "", lambda _, s: _Stripe(_encode_secret(s))),
        SchemeRow("standard", "", lambda _, s: _Standard(_decode_standard_key(s))),
        SchemeRow("hmac-sha256", "Header-Name", lambda name, s: _Plain(name, _encode_secret(s))),
    )
}


def parse_scheme(text: str) -> Scheme:
    """Parse ``scheme:secret``. Raises ``ValueError`` with the end of a sentence."""
    form, colon, secret = (part.strip() for part in text.partition(":"))
    if form == CLOSED and not colon:
        return _Closed()
    name, at, parameter = form.partition("@")
    row = SCHEMES.get(name)
    if row is None or bool(at) != bool(row.parameter):
        forms = [row.form for row in SCHEMES.values()]
        raise ValueError(f"has none of the schemes {', '.join(forms)}, {CLOSED}")
    if at and not _HEADER_NAME.fullmatch(parameter):
        raise ValueError(f"needs the name of a header after {name}@")
    if not secret:
        raise ValueError("has no secret after its scheme and a colon")
    return row.make(parameter, secret)


def check_standard_secret(secret: str) -> str:
    """Return ``secret`` if it is empty or one of Standard Webhooks. Raises ``ValueError``."""
    if secret:
        _decode_standard_key(secret)
    return secret


def sign(scheme: str, body: bytes, timestamp_s: int = 0, message_id: str = "") -> dict[str, str]:
    """Return the headers with which a sender of ``scheme`` (``name:secret``) sends ``body``.

    ``timestamp_s`` is in seconds since the Unix epoch. Raises ``ValueError``.
    """
    return parse_scheme(scheme).sign(body, timestamp_s, message_id)


def sign_standard(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks for ``body``.

    ``secret`` is ``whsec_`` and base64, ``message_id`` printable ASCII without spaces,
    ``timestamp_s`` in seconds since the Unix epoch. Raises ``ValueError``.
    """
    return _Standard(_decode_standard_key(secret)).sign(body, timestamp_s, message_id)


def _encode_secret(secret: str) -> bytes:
    """Encode as UTF-8; bytes of the environment that are not UTF-8 stay as they were (PEP 383)."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("has a secret that is not text") from None


def _decode_standard_key(secret: str) -> bytes:
    text = secret.removeprefix(_STANDARD_PREFIX)
    bare = text.rstrip("=")  # some senders show a key without padding, and their library accepts it
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if text == secret or not key:
        raise ValueError(f"needs a secret of {_STANDARD_PREFIX} and base64")
    return key


def _get_only(headers: Headers, name: str) -> str:
    values = headers(name)
    if not values:
        raise Unauthorized(f"{name}: missing; webhooks of this source must be signed")
    if len(values) > 1:
        raise Unauthorized(f"{name}: occurs {len(values)} times")
    if len(values[0]) > MAX_HEADER_CHARACTERS:
        raise Unauthorized(f"{name}: longer than {MAX_HEADER_CHARACTERS} characters")
    return values[0]


def _check_time(header: str, seconds: str, now_ms: int, tolerance_s: int) -> None:
    if not _SECONDS.fullmatch(seconds):
        raise Unauthorized(f"{header}: its timestamp is not a whole number of seconds")
    if abs(now_ms - int(seconds) * 1000) > tolerance_s * 1000:
        raise Unauthorized(
            f"{header}: signed more than {tolerance_s} s before or after this node's time; the "
            "request is old, or one of the two clocks is wrong"
        )


def _digest(key: bytes, body: bytes, prefix: bytes = b"") -> bytes:
    digest = hmac.new(key, prefix, "sha256")
    digest.update(body)  # without a copy of a body of megabytes for the sake of its prefix
    return digest.digest()


def _compare(header: str, digests: list[bytes], expected: bytes) -> None:
    matches = [hmac.compare_digest(digest, expected) for digest in digests]
    if not any(matches):
        raise Unauthorized(f"{header}: the signature does not match; check the secret")
