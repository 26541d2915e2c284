"""HMAC signatures (RFC 2104, FIPS 180-4): one class for every sender, configured by a row."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import KeyEncoding, decode_key
from portable_core.sources.request import SourceRequest
from portable_core.sources.signed_content import (
    SignedColumns,
    SignedContent,
    SignedForm,
    compile_content,
)

Algorithm = Literal["sha1", "sha256", "sha512"]

_DIGEST_BYTES: Mapping[Algorithm, int] = {"sha1": 20, "sha256": 32, "sha512": 64}


class HmacColumns(SignedColumns, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The column ``signature.hmac``. ``key`` is how the secret spells the key."""

    algorithm: Algorithm = "sha256"
    key: KeyEncoding = "text"

    def compile(self) -> HmacForm:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        return HmacForm(self, compile_content(self))


@dataclass(frozen=True, slots=True)
class HmacForm(SignedForm):
    """The parsed columns: a scheme without its secret."""

    columns: HmacColumns
    content: SignedContent

    @property
    def covers_body(self) -> bool:
        """Whether the signature covers the whole body."""
        return "body" in self.content.signed.special

    @property
    def name(self) -> str:
        """The algorithm, as in messages."""
        return f"HMAC-{self.columns.algorithm.upper()}"

    def make(self, secret: str) -> HmacScheme:
        """Return the scheme with this secret. Raises ``ValueError`` with the end of a sentence."""
        return HmacScheme(self, decode_key(secret, self.columns.key))

    def make_with_parameter(self, header: str) -> HmacForm:
        """Return the same form with the signature in another header."""
        return msgspec.structs.replace(self.columns, read=f"header:{header}").compile()

    def describe(self) -> str:
        """Return the form in a few words."""
        return self.content.describe(self.name)


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """A form with its key."""

    form: HmacForm
    key: bytes = field(repr=False)

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return self.form.needs_url

    def check(self, request: SourceRequest, now_ms: int) -> None:
        """Return if the signature is right. Raises ``Unauthorized``."""
        form, content = self.form, self.form.content
        texts, parts = content.read_signed(request, now_ms)
        digests = content.decode(texts, _DIGEST_BYTES[form.columns.algorithm], f"an {form.name}")
        expected = self.digest(parts)
        matches = [hmac.compare_digest(digest, expected) for digest in digests]
        if not any(matches):
            raise Unauthorized(f"{content.read}: the signature does not match; check the secret")

    def describe(self) -> str:
        """Return the form in a few words, without the secret."""
        return self.form.describe()

    def digest(self, parts: list[bytes]) -> bytes:
        """Return the HMAC of these parts, one after the other."""
        algorithm = self.form.columns.algorithm
        if len(parts) == 1:
            return hmac.digest(self.key, parts[0], algorithm)
        made = hmac.new(self.key, digestmod=algorithm)
        for part in parts:  # without a copy of a body of megabytes for the sake of its prefix
            made.update(part)
        return made.digest()

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends the request. Raises ``ValueError``."""
        content = self.form.content
        headers, parts, timestamp = content.prepare(request, timestamp_s, message_id)
        return {**headers, content.read.name: content.write(self.digest(parts), timestamp)}
