"""Senders that send a secret with each request: a token, or a user and a password."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import encode_secret
from portable_core.sources.request import SourceRequest
from portable_core.sources.values import Value, parse_value


class TokenColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The column ``signature.token``.

    - ``read``: the value that is the token.
    - ``prefix``: in front of the token, such as ``Bearer`` and a space.
    - ``basic``: whether the value is that of HTTP Basic (RFC 7617) with the secret
      ``user:password``.
    """

    read: str
    prefix: str = ""
    basic: bool = False

    def compile(self) -> TokenForm:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        try:
            return TokenForm(self, parse_value(self.read))
        except ValueError as error:
            raise ValueError(f"read: {error}") from None


@dataclass(frozen=True, slots=True)
class TokenForm:
    """The parsed columns: a scheme without its secret."""

    columns: TokenColumns
    read: Value
    needs_url: bool = False

    @property
    def secret_values(self) -> tuple[Value, ...]:
        """The values that are secrets by themselves and not kept."""
        return (self.read,)

    def make(self, secret: str) -> TokenScheme:
        """Return the scheme with this secret. Raises ``ValueError`` with the end of a sentence."""
        if self.columns.basic:
            if ":" not in secret:
                raise ValueError("needs a secret of user:password")
            coded = base64.b64encode(encode_secret(secret)).decode()
            return TokenScheme(self, f"Basic {coded}".encode())
        return TokenScheme(self, self.columns.prefix.encode() + encode_secret(secret))

    def make_with_parameter(self, header: str) -> TokenForm:
        """Return the same form with the token in another header."""
        return msgspec.structs.replace(self.columns, read=f"header:{header}").compile()

    def describe(self) -> str:
        """Return the form in a few words."""
        content = "Basic user:password" if self.columns.basic else f"{self.columns.prefix}secret"
        return f"{self.read}: {content}"


@dataclass(frozen=True, slots=True)
class TokenScheme:
    """A form with its secret."""

    form: TokenForm
    expected: bytes = field(repr=False)

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return self.form.needs_url

    def check(self, request: SourceRequest, now_ms: int) -> None:
        """Return if the secret is right. Raises ``Unauthorized``."""
        text = self.form.read.read(request)
        # The characters of a header's value stand for bytes.
        coding = "latin-1" if self.form.read.place == "header" else "utf-8"
        try:
            given = text.encode(coding)
        except UnicodeEncodeError:
            given = b""
        # A scheme's name counts in any case (RFC 9110, section 11.1).
        start, space, rest = given.partition(b" ")
        name = self.expected.partition(b" ")[0]
        if self.form.read.name.lower() == "authorization" and start.lower() == name.lower():
            given = name + space + rest
        if not hmac.compare_digest(given, self.expected):
            raise Unauthorized(f"{self.form.read}: the secret does not match")

    def describe(self) -> str:
        """Return the form in a few words, without the secret."""
        return self.form.describe()

    def digest(self, parts: list[bytes]) -> bytes:
        """Raise ``ValueError``: no HMAC can be made with a token."""
        raise ValueError("the secret is not the key of an HMAC")

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends the request. Raises ``ValueError``."""
        if self.form.read.place != "header":
            raise ValueError(f"sends the secret in {self.form.read}, not in a header")
        return {self.form.read.name: self.expected.decode("latin-1")}
