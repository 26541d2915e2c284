"""HMAC signatures (RFC 2104, FIPS 180-4): one class for every sender, configured by a row."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import (
    ENCODINGS,
    EncodingName,
    KeyEncoding,
    TimeUnit,
    check_time,
    decode_key,
    format_time,
)
from portable_core.sources.request import SourceRequest
from portable_core.sources.values import Template, Value, parse_template, parse_value

Algorithm = Literal["sha1", "sha256", "sha512"]

_DIGEST_BYTES: Mapping[Algorithm, int] = {"sha1": 20, "sha256": 32, "sha512": 64}

#: The start of ``timestamp`` where an element of the signature's value has it.
_ELEMENT = "element:"

_PLAIN = re.compile(r"[!-~]+")


class HmacColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The column ``signature.hmac``.

    - ``read``: the value that has the signature.
    - ``separator``: between the elements of the value, if it may hold several.
    - ``prefix``: in front of each signature; elements with another one are ignored.
    - ``prefix_optional``: whether a signature without the prefix counts too.
    - ``encodings``: of the signature; of the first one when this side signs.
    - ``signed``: the template of the signed content.
    - ``timestamp``: the value with the time of signing, or ``element:<prefix>`` for an element of
      the signature's value. The template names it ``{timestamp}``.
    - ``key``: how the secret spells the key.
    """

    read: str
    algorithm: Algorithm = "sha256"
    key: KeyEncoding = "text"
    separator: str = ""
    prefix: str = ""
    prefix_optional: bool = False
    encodings: tuple[EncodingName, ...] = ("hex",)
    signed: str = "{body}"
    timestamp: str = ""
    unit: TimeUnit = "s"
    tolerance_s: int = 300

    def compile(self) -> HmacForm:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        signed = _parse("signed", self.signed)
        element, timestamp = "", None
        if self.timestamp.startswith(_ELEMENT):
            element = self.timestamp.removeprefix(_ELEMENT)
            if not element or not self.separator:
                raise ValueError("timestamp: element: needs a prefix and a separator")
        elif self.timestamp:
            timestamp = _named("timestamp", self.timestamp)
        if ("timestamp" in signed.special) != bool(self.timestamp):
            raise ValueError("signed: {timestamp} and the column timestamp need each other")
        if not {"body", "form"} & signed.special and not signed.values:
            raise ValueError("signed: names nothing of the request")
        if not self.encodings:
            raise ValueError("encodings: must name at least one")
        if not 1 <= self.tolerance_s <= 86_400:
            raise ValueError(f"tolerance_s: must be 1 to 86400 (got {self.tolerance_s})")
        return HmacForm(self, _named("read", self.read), signed, timestamp, element)


def _named(column: str, text: str) -> Value:
    try:
        return parse_value(text)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _parse(column: str, text: str) -> Template:
    try:
        return parse_template(text)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


@dataclass(frozen=True, slots=True)
class HmacForm:
    """The parsed columns: a scheme without its secret."""

    columns: HmacColumns
    read: Value
    signed: Template
    timestamp: Value | None
    element: str

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return "url" in self.signed.special

    @property
    def secret_values(self) -> tuple[Value, ...]:
        """The values that are secrets by themselves; a signature never is."""
        return ()

    def make(self, secret: str) -> HmacScheme:
        """Return the scheme with this secret. Raises ``ValueError`` with the end of a sentence."""
        return HmacScheme(self, decode_key(secret, self.columns.key))

    def make_with_parameter(self, header: str) -> HmacForm:
        """Return the same form with the signature in another header."""
        return msgspec.structs.replace(self.columns, read=f"header:{header}").compile()

    def describe(self) -> str:
        """Return the form in a few words."""
        columns = self.columns
        return (
            f"{self.read}: {columns.prefix}{'|'.join(columns.encodings)} of "
            f"HMAC-{columns.algorithm.upper()} over {columns.signed}"
        )


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
        form, columns = self.form, self.form.columns
        signed = form.signed
        values = {value: value.read(request) for value in signed.values}
        timestamp = "" if form.timestamp is None else form.timestamp.read(request)
        text = form.read.read(request)
        for value, content in values.items():
            if value.place == "header" and not _PLAIN.fullmatch(content):
                raise Unauthorized(f"{value}: not printable ASCII without spaces")
        timed_by = str(form.read if form.timestamp is None else form.timestamp)
        elements = [text]
        if columns.separator:
            elements = [element.strip() for element in text.split(columns.separator)]
        if form.element:
            timestamp = self._find_timestamp(elements)
        if columns.timestamp:
            check_time(timed_by, timestamp, columns.unit, columns.tolerance_s, now_ms)
        digests = self._read_digests(elements)
        expected = self._digest(request, {v: _encode(t) for v, t in values.items()}, timestamp)
        matches = [hmac.compare_digest(digest, expected) for digest in digests]
        if not any(matches):
            raise Unauthorized(f"{form.read}: the signature does not match; check the secret")

    def _find_timestamp(self, elements: list[str]) -> str:
        prefix = self.form.element
        found = [e.removeprefix(prefix) for e in elements if e.startswith(prefix)]
        if len(found) != 1:
            raise Unauthorized(f"{self.form.read}: has {len(found)} timestamps {prefix}, not one")
        return found[0]

    def _read_digests(self, elements: list[str]) -> list[bytes]:
        columns = self.form.columns
        digests = []
        for element in elements:
            text = element.removeprefix(columns.prefix)
            if text == element and columns.prefix and not columns.prefix_optional:
                continue
            digests += self._decode(text)
        if digests:
            return digests
        form = f"{columns.prefix}<{' or '.join(columns.encodings)}>"
        if columns.separator:
            raise Unauthorized(f"{self.form.read}: has no signature {form}")
        raise Unauthorized(
            f"{self.form.read}: not an HMAC-{columns.algorithm.upper()} in the form {form}"
        )

    def _decode(self, text: str) -> list[bytes]:
        length = _DIGEST_BYTES[self.form.columns.algorithm]
        found = (ENCODINGS[name].decode(text) for name in self.form.columns.encodings)
        return [digest for digest in found if digest is not None and len(digest) == length]

    def _digest(
        self, request: SourceRequest, values: Mapping[Value, bytes], timestamp: str
    ) -> bytes:
        special: dict[str, tuple[bytes, ...]] = {
            "body": (request.body,),
            "timestamp": (timestamp.encode(),),
            "url": (request.url.encode("latin-1", "replace"),),
            "method": (request.method.encode(),),
        }
        if "form" in self.form.signed.special:
            fields = sorted(set(request.fields))
            special["form"] = tuple(_encode(name + text) for name, text in fields)
        return self.digest(self.form.signed.fill(values, special))

    def digest(self, parts: list[bytes]) -> bytes:
        """Return the HMAC of these parts, one after the other."""
        made = hmac.new(self.key, digestmod=self.form.columns.algorithm)
        for part in parts:  # without a copy of a body of megabytes for the sake of its prefix
            made.update(part)
        return made.digest()

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends the request. Raises ``ValueError``.

        Headers that are signed, and that the request lacks, have the message id as their value.
        """
        form, columns = self.form, self.form.columns
        if form.read.place != "header":
            raise ValueError(f"signs in {form.read}, not in a header")
        timestamp = format_time(timestamp_s, columns.unit) if columns.timestamp else ""
        headers: dict[str, str] = {}
        if form.timestamp is not None:
            headers[form.timestamp.name] = timestamp
        values = {}
        for value in form.signed.values:
            texts = value.read_all(request)
            if not texts and value.place == "header":
                if not _PLAIN.fullmatch(message_id):
                    raise ValueError("a message id must be printable ASCII without spaces")
                headers[value.name] = message_id
                texts = [message_id]
            values[value] = _encode(next(iter(texts), ""))
        digest = self._digest(request, values, timestamp)
        text = columns.prefix * (not columns.prefix_optional)
        text += ENCODINGS[columns.encodings[0]].encode(digest)
        if form.element:
            text = f"{form.element}{timestamp}{columns.separator}{text}"
        return {**headers, form.read.name: text}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
