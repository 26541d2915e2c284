"""Senders that sign with a JSON Web Token: with a secret, or with a key that they publish.

Keys come from the address that the row names, never from one in a request. This module does no I/O:
:data:`FindKey` finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import ENCODINGS, EncodingName, encode_secret
from portable_core.sources.json_web_token import (
    Algorithm,
    check_times,
    is_hmac,
    make_digest,
    parse_token,
    verify_hmac,
    verify_public,
)
from portable_core.sources.request import SourceRequest
from portable_core.sources.values import Template, Value, parse_template, parse_value

#: Returns the public key (PEM) of an address and a key ID; None if it has no such key. Raises
#: ``Unavailable`` if the keys are not there.
FindKey = Callable[[str, str], str | None]

#: Names of the request in the templates of claims.
_IN_CLAIMS = ("url", "method")
_IN_DIGESTS = ("body", *_IN_CLAIMS)

#: A token that ``sign`` makes is valid as long, in seconds.
_VALID_S = 300


class DigestColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim that is a SHA-256: ``of`` is the template of what it is of."""

    of: str = "{body}"
    encoding: EncodingName = "hex"


class JwtColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The column ``signature.jwt``.

    - ``read``, ``prefix``: the value that is the token, and what is in front of the token.
    - ``algorithm``: the only one that is accepted.
    - ``keys``: the address of the public keys, a JWK set (RFC 7517); empty for an HMAC.
    - ``claims``: the values that a claim may have; texts are templates.
    - ``digests``: claims that are digests of the request.
    - ``expected``: the claims whose values the secret lists, separated by spaces, where ``keys`` is
      set.
    """

    read: str = "header:Authorization"
    prefix: str = ""
    algorithm: Algorithm = "RS256"
    keys: str = ""
    claims: dict[str, tuple[str | bool, ...]] = {}
    digests: dict[str, DigestColumns] = {}
    expected: tuple[str, ...] = ()

    def compile(self) -> JwtForm:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        if is_hmac(self.algorithm) == bool(self.keys or self.expected):
            raise ValueError("keys, expected: must be set for public keys, and not for an HMAC")
        if self.keys and not self.keys.startswith(("https://", "http://127.0.0.1:")):
            raise ValueError("keys: must begin with https://")
        if self.keys and not self.expected:
            raise ValueError("expected: must name a claim, or any user of the issuer can sign")
        try:
            read = parse_value(self.read)
            claims = {
                name: tuple(t if isinstance(t, bool) else parse_template(t, _IN_CLAIMS) for t in ts)
                for name, ts in self.claims.items()
            }
            digests = {
                name: (parse_template(digest.of, _IN_DIGESTS), digest.encoding)
                for name, digest in self.digests.items()
            }
        except ValueError as error:
            raise ValueError(f"read, claims or digests: {error}") from None
        return JwtForm(self, read, claims, digests)


@dataclass(frozen=True, slots=True)
class JwtForm:
    """The parsed columns: a scheme without its secret."""

    columns: JwtColumns
    read: Value
    claims: Mapping[str, tuple[Template | bool, ...]]
    digests: Mapping[str, tuple[Template, EncodingName]]

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        texts = [t for ts in self.claims.values() for t in ts if isinstance(t, Template)]
        return any("url" in t.special for t in (*texts, *(d for d, _ in self.digests.values())))

    @property
    def secret_values(self) -> tuple[Value, ...]:
        """The values that are secrets by themselves: a token that goes with any body."""
        covers = any("body" in template.special for template, _ in self.digests.values())
        return () if covers else (self.read,)

    def make(self, secret: str) -> JwtScheme:
        """Return the scheme with this secret. Raises ``ValueError`` with the end of a sentence."""
        names = self.columns.expected
        texts = secret.split()
        if names and len(texts) != len(names):
            raise ValueError(f"needs {len(names)} values separated by spaces: {', '.join(names)}")
        return JwtScheme(self, encode_secret(secret), dict(zip(names, texts, strict=False)))

    def make_with_parameter(self, header: str) -> JwtForm:
        """Return the same form with the token in another header."""
        return msgspec.structs.replace(self.columns, read=f"header:{header}").compile()

    def describe(self) -> str:
        """Return the form in a few words."""
        columns = self.columns
        checked = [*columns.claims, *columns.digests, *columns.expected]
        with_keys = f", keys of {columns.keys}" if columns.keys else ""
        with_claims = f", with {', '.join(checked)}" if checked else ""
        return f"{self.read}: {columns.prefix}<JWT>, {columns.algorithm}{with_keys}{with_claims}"


def _find_no_key(address: str, key_id: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class JwtScheme:
    """A form with its secret, or with the values that its tokens must have."""

    form: JwtForm
    key: bytes = field(repr=False)
    expected: Mapping[str, str] = field(repr=False)
    find_key: FindKey = field(default=_find_no_key, repr=False, compare=False)

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return self.form.needs_url

    def use_keys(self, find_key: FindKey) -> JwtScheme:
        """Return this scheme with public keys."""
        return replace(self, find_key=find_key)

    def check(self, request: SourceRequest, now_ms: int) -> None:
        """Return if the token is right. Raises ``Unauthorized``, and ``Unavailable`` if the keys
        are not there."""
        form, columns = self.form, self.form.columns
        name, text = str(form.read), form.read.read(request)
        # A scheme's name counts in any case (RFC 9110, section 11.1).
        start = text[: len(columns.prefix)]
        if start.lower() != columns.prefix.lower():
            raise Unauthorized(f"{name}: does not begin with {columns.prefix.strip()}")
        token = parse_token(name, text[len(columns.prefix) :], columns.algorithm)
        check_times(name, token.claims, now_ms / 1000)
        if is_hmac(columns.algorithm):
            right = verify_hmac(token, self.key, columns.algorithm)
        else:
            key_id = token.header.get("kid")
            key = self.find_key(columns.keys, key_id) if isinstance(key_id, str) else None
            if key is None:
                raise Unauthorized(f"{name}: the token is signed with a key that is not published")
            try:
                right = verify_public(token, key, columns.algorithm)
            except ValueError:
                right = False
        if not right:
            raise Unauthorized(f"{name}: the signature does not match; check the secret")
        for claim, allowed in self._fill(request).items():
            if not _is_one_of(token.claims.get(claim), allowed, claim):
                raise Unauthorized(f"{name}: the token's {claim} does not match")

    def _fill(self, request: SourceRequest) -> dict[str, list[object]]:
        """Return the values that each claim may have."""
        form = self.form
        url = request.url.encode("latin-1", "replace")
        special = {"url": [url], "method": [request.method.encode()], "body": [request.body]}

        def fill(template: Template) -> bytes:
            values = {value: value.read(request).encode() for value in template.values}
            return b"".join(template.fill(values, special))

        claims: dict[str, list[object]] = {
            name: [t if isinstance(t, bool) else fill(t).decode("utf-8", "replace") for t in texts]
            for name, texts in form.claims.items()
        }
        for name, (template, encoding) in form.digests.items():
            text = ENCODINGS[encoding].encode(hashlib.sha256(fill(template)).digest())
            bare = text.rstrip("=")  # senders pad, or do not, from one version to the next
            claims[name] = [text, bare, bare + "=" * (-len(bare) % 4)]
        return claims | {name: [text] for name, text in self.expected.items()}

    def describe(self) -> str:
        """Return the form in a few words, without the secret."""
        return self.form.describe()

    def digest(self, parts: list[bytes]) -> bytes:
        """Raise ``ValueError``: no HMAC is made with the secret of a token."""
        raise ValueError("the secret is that of a JSON Web Token")

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends the request. Raises ``ValueError``."""
        form, columns = self.form, self.form.columns
        if not is_hmac(columns.algorithm):
            raise ValueError("only the sender has the private key")
        if form.read.place != "header":
            raise ValueError(f"sends the token in {form.read}, not in a header")
        filled = {name: values[0] for name, values in self._fill(request).items()}
        times = {"iat": timestamp_s, "nbf": timestamp_s, "exp": timestamp_s + _VALID_S}
        encode = ENCODINGS["base64url-unpadded"].encode
        parts = ({"alg": columns.algorithm, "typ": "JWT"}, {**times, "jti": message_id, **filled})
        signed = ".".join(encode(json.dumps(part).encode()) for part in parts)
        signature = make_digest(self.key, signed.encode(), columns.algorithm)
        return {form.read.name: f"{columns.prefix}{signed}.{encode(signature)}"}


def _is_one_of(value: Any, allowed: list[object], claim: str) -> bool:
    """Return whether a claim has one of these values; an audience may be a list of texts."""
    if claim == "aud" and isinstance(value, list):
        return any(text in allowed for text in value if isinstance(text, str))
    return isinstance(value, str | bool) and any(
        type(one) is type(value) and one == value for one in allowed
    )
