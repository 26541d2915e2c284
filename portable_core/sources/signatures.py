"""Webhook signatures: how each source signs, and whether one webhook's signature is right.

The setting ``SOURCES`` says for every source (the last part of ``/webhook/<source>``) by which
scheme and with which secret its sender signs. All schemes are HMAC-SHA256 (RFC 2104, FIPS 180-4)
over the body as it was received; they differ in what else is signed and in how it is written down:

``github``
    ``X-Hub-Signature-256: sha256=<hex>`` over the body (GitHub: Validating webhook deliveries).
``stripe``
    ``Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`` over ``<seconds>.<body>`` (Stripe: Verify
    webhook signatures manually). Elements of other names are ignored.
``standard``
    ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature: v1,<base64>[ v1,<base64>]`` over
    ``<id>.<seconds>.<body>`` (Standard Webhooks 1.0.0). The key is ``whsec_`` and base64.
    Signatures of other versions are ignored.
``hmac-sha256@Header-Name``
    The body's alone, in that header, in hexadecimal (also after ``sha256=``) or base64.

Nothing here reads a clock: the time is an argument. Whatever a header holds, a webhook is either
admitted or refused with :class:`~portable_core.errors.Unauthorized`; no message holds a secret, an
expected signature or anything that was sent.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from portable_core.errors import SettingsError, Unauthorized

#: All values of a header, in order, by its name in any case; an empty list if it did not come.
Headers = Callable[[str], list[str]]

#: How far a signed timestamp may lie from the node's clock, either way, in seconds: the tolerance
#: of the providers' own libraries. A request that was recorded is of no use after that.
STRIPE_TOLERANCE_S = 300
STANDARD_TOLERANCE_S = 300

#: A header with a signature is at most this long; a longer one is refused unread.
MAX_HEADER_CHARACTERS = 8192

#: The entry for every source that has none of its own, and the scheme that admits nobody.
ANY_SOURCE = "*"
CLOSED = "closed"

GITHUB_HEADER = "X-Hub-Signature-256"
STRIPE_HEADER = "Stripe-Signature"
STANDARD_ID_HEADER = "webhook-id"
STANDARD_TIMESTAMP_HEADER = "webhook-timestamp"
STANDARD_SIGNATURE_HEADER = "webhook-signature"

_STANDARD_PREFIX = "whsec_"
_HMAC_SCHEME = "hmac-sha256@"
_SCHEME_NAMES = f"github, stripe, standard, {_HMAC_SCHEME}Header-Name, {CLOSED}"

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}=")
_SECONDS = re.compile(r"[0-9]{1,15}")
_MESSAGE_ID = re.compile(r"[!-~]+")
_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Sources:
    """What ``SOURCES`` says: by source, the schemes of which any one admits."""

    entries: Mapping[str, tuple[Scheme, ...]]

    def verify(self, source: str, headers: Headers, body: bytes, now_ms: int) -> None:
        """Return if a webhook to ``source`` is rightly signed, or need not be.

        ``source`` is empty for ``/webhook`` itself. ``now_ms`` is the node's clock in milliseconds
        since the Unix epoch. Raises ``Unauthorized``, which names the fault.
        """
        schemes = self.entries.get(source) or self.entries.get(ANY_SOURCE) or ()
        faults: dict[str, None] = {}
        admitted = not schemes
        for scheme in schemes:  # all of them, so that the time taken does not tell which one fits
            try:
                scheme.check(headers, body, now_ms)
                admitted = True
            except Unauthorized as fault:
                faults[str(fault)] = None
        if not admitted:
            raise Unauthorized("; ".join(faults))


def parse_sources(text: str) -> Sources:
    """Read ``name=scheme:secret,name=scheme:secret``, the form of ``SOURCES``.

    A name may come several times, with the same scheme or another: any match admits, so that a
    secret can be rotated. An empty name stands for ``/webhook`` itself, ``*`` for every source
    without an entry; the scheme ``closed``, which has no secret, admits nobody. A secret is any
    text without a comma; spaces around it do not count.

    Raises ``SettingsError``: one line that names ``SOURCES`` and counts to the entry, but quotes
    none of it, for what stands in the wrong place may be part of a secret.
    """
    entries: dict[str, tuple[Scheme, ...]] = {}
    for number, entry in enumerate(text.split(","), 1):
        if not entry.strip():
            continue
        name, equals, rest = (part.strip() for part in entry.partition("="))
        if not equals or not (name in ("", ANY_SOURCE) or _SOURCE.fullmatch(name)):
            raise SettingsError(
                f"SOURCES: entry {number} is not name=scheme:secret, with a name of 1 to 64 "
                "letters, digits, dots, dashes or underscores (a secret may not hold a comma)"
            )
        try:
            scheme = _parse_scheme(rest)
        except ValueError as error:
            raise SettingsError(f"SOURCES: entry {number} {error}") from None
        entries[name] = (*entries.get(name, ()), scheme)
    return Sources(entries)


def sign_github(secret: str, body: bytes) -> dict[str, str]:
    """The header with which GitHub would send ``body``. ``ValueError`` for an impossible secret."""
    return {GITHUB_HEADER: f"sha256={_sign(_encode_secret(secret), body).hex()}"}


def sign_stripe(secret: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The header with which Stripe would send ``body`` at ``timestamp_s`` (seconds, Unix epoch)."""
    digest = _sign(_encode_secret(secret), body, f"{timestamp_s}.".encode())
    return {STRIPE_HEADER: f"t={timestamp_s},v1={digest.hex()}"}


def sign_standard(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks for ``body`` at ``timestamp_s`` (seconds, Unix epoch).

    ``secret`` is ``whsec_`` and base64, ``message_id`` printable ASCII without spaces; anything
    else raises ``ValueError``.
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("a message id is printable ASCII without spaces")
    prefix = f"{message_id}.{timestamp_s}.".encode()
    digest = _sign(_decode_standard_key(secret), body, prefix)
    return {
        STANDARD_ID_HEADER: message_id,
        STANDARD_TIMESTAMP_HEADER: str(timestamp_s),
        STANDARD_SIGNATURE_HEADER: f"v1,{base64.b64encode(digest).decode()}",
    }


def sign_hmac(secret: str, header: str, body: bytes) -> dict[str, str]:
    """The header of the scheme ``hmac-sha256@<header>``, in hexadecimal."""
    return {header: _sign(_encode_secret(secret), body).hex()}


class Scheme(Protocol):
    """One way to sign, with its secret. Its ``repr`` does not show the secret."""

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        """Return if the signature is right. Raises ``Unauthorized``."""
        ...


@dataclass(frozen=True, slots=True)
class _Plain:
    """A signature of the body alone in ``header``: ``github``, and any header of one's choice."""

    header: str
    key: bytes = field(repr=False)
    prefixed: bool = False

    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        digest = self._read(_get_only(headers, self.header))
        _compare(self.header, [digest], _sign(self.key, body))

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
        _compare(STRIPE_HEADER, digests, _sign(self.key, body, f"{timestamps[0]}.".encode()))


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
        expected = _sign(self.key, body, f"{message_id}.{timestamp}.".encode())
        _compare(STANDARD_SIGNATURE_HEADER, digests, expected)


@dataclass(frozen=True, slots=True)
class _Closed:
    def check(self, headers: Headers, body: bytes, now_ms: int) -> None:
        raise Unauthorized("no webhooks are taken at this address; is the source's name right?")


#: The schemes whose name is fixed and that have a secret.
_SCHEMES: Mapping[str, Callable[[str], Scheme]] = {
    "github": lambda secret: _Plain(GITHUB_HEADER, _encode_secret(secret), prefixed=True),
    "stripe": lambda secret: _Stripe(_encode_secret(secret)),
    "standard": lambda secret: _Standard(_decode_standard_key(secret)),
}


def _parse_scheme(text: str) -> Scheme:
    """``scheme:secret`` taken apart. Raises ``ValueError`` with the end of a sentence."""
    name, colon, secret = (part.strip() for part in text.partition(":"))
    if name == CLOSED and not colon:
        return _Closed()
    header = name.removeprefix(_HMAC_SCHEME)
    if header == name:
        if name not in _SCHEMES:
            raise ValueError(f"has none of the schemes {_SCHEME_NAMES}")
    elif not _HEADER_NAME.fullmatch(header):
        raise ValueError(f"needs the name of a header after {_HMAC_SCHEME}")
    if not secret:
        raise ValueError("has no secret after its scheme and a colon")
    if header == name:
        return _SCHEMES[name](secret)
    return _Plain(header, _encode_secret(secret))


def _encode_secret(secret: str) -> bytes:
    """UTF-8; bytes of the environment that are not UTF-8 come out as they went in (PEP 383)."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("has a secret that is not text") from None


def _decode_standard_key(secret: str) -> bytes:
    text = secret.removeprefix(_STANDARD_PREFIX)
    bare = text.rstrip("=")  # some senders show a key without padding; their library takes it
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
        raise Unauthorized(f"{name}: missing; this source's webhooks must be signed")
    if len(values) > 1:
        raise Unauthorized(f"{name}: comes {len(values)} times")
    if len(values[0]) > MAX_HEADER_CHARACTERS:
        raise Unauthorized(f"{name}: longer than {MAX_HEADER_CHARACTERS} characters")
    return values[0]


def _check_time(header: str, seconds: str, now_ms: int, tolerance_s: int) -> None:
    if not _SECONDS.fullmatch(seconds):
        raise Unauthorized(f"{header}: its timestamp is not a whole number of seconds")
    if abs(now_ms - int(seconds) * 1000) > tolerance_s * 1000:
        raise Unauthorized(
            f"{header}: signed more than {tolerance_s} s before or after this node's time; "
            "an old request, or is a clock wrong?"
        )


def _sign(key: bytes, body: bytes, prefix: bytes = b"") -> bytes:
    digest = hmac.new(key, prefix, "sha256")
    digest.update(body)  # a body of megabytes is not copied for the sake of its prefix
    return digest.digest()


def _compare(header: str, digests: list[bytes], expected: bytes) -> None:
    matches = [hmac.compare_digest(digest, expected) for digest in digests]
    if not any(matches):
        raise Unauthorized(f"{header}: the signature does not match; is the secret the sender's?")
