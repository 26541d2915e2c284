"""What every signature has in common: where it is, what it covers, and the time of signing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from portable_core.errors import Unauthorized
from portable_core.payload_hash.pointers import ABSENT, Pointer, parse_pointer, read_member
from portable_core.sources.encodings import (
    ENCODINGS,
    EncodingName,
    TimeUnit,
    check_time,
    format_time,
)
from portable_core.sources.request import SourceRequest
from portable_core.sources.values import Template, Value, parse_template, parse_value

#: The start of ``timestamp`` where an element of the signature's value has it.
_ELEMENT = "element:"

_PLAIN = re.compile(r"[!-~]+")


class SignedColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The columns of every signature.

    - ``read``: the value that has the signature.
    - ``separator``: between the elements of the value, if it may hold several.
    - ``prefix``: in front of each signature; elements with another one are ignored.
    - ``prefix_optional``: whether a signature without the prefix counts too.
    - ``encodings``: of the signature; the first one when this side signs.
    - ``signed``: the template of the signed content.
    - ``absent``: JSON Pointers of members that no webhook has, because the signature would not
      cover them.
    - ``timestamp``: the value with the time of signing, or ``element:<prefix>`` for an element of
      the signature's value. The template names it ``{timestamp}``.
    """

    read: str
    separator: str = ""
    prefix: str = ""
    prefix_optional: bool = False
    encodings: tuple[EncodingName, ...] = ("hex",)
    signed: str = "{body}"
    absent: tuple[str, ...] = ()
    timestamp: str = ""
    unit: TimeUnit = "s"
    tolerance_s: int = 300


@dataclass(frozen=True, slots=True)
class SignedContent:
    """The parsed columns."""

    columns: SignedColumns
    read: Value
    signed: Template
    timestamp: Value | None
    element: str
    absent: tuple[Pointer, ...] = ()

    def read_signed(self, request: SourceRequest, now_ms: int) -> Signed:
        """Return the signatures of a request, and what they should cover.

        Raises ``Unauthorized`` for values that are missing or malformed, or an old timestamp.
        """
        columns = self.columns
        text = self.read.read(request)
        for pointer in self.absent:
            if read_member(request.document, pointer) is not ABSENT:
                raise Unauthorized(f"body:{pointer}: is there, and the signature does not cover it")
        elements = [text]
        if columns.separator:
            elements = [element.strip() for element in text.split(columns.separator)]
        timestamp = ""
        if columns.timestamp:
            if self.timestamp is None:
                timestamp, timed_by = self._find_timestamp(elements), self.read
            else:
                timestamp, timed_by = self.timestamp.read(request), self.timestamp
            check_time(str(timed_by), timestamp, columns.unit, columns.tolerance_s, now_ms)
        return Signed(self._list_texts(elements), self._fill(request, timestamp, _read_signed))

    def _find_timestamp(self, elements: list[str]) -> str:
        found = [e.removeprefix(self.element) for e in elements if e.startswith(self.element)]
        if len(found) != 1:
            raise Unauthorized(f"{self.read}: has {len(found)} timestamps {self.element}, not one")
        return found[0]

    def _list_texts(self, elements: list[str]) -> list[str]:
        columns = self.columns
        texts = []
        for element in elements:
            text = element.removeprefix(columns.prefix)
            if text != element or not columns.prefix or columns.prefix_optional:
                texts.append(text)
        return texts

    def decode(self, texts: list[str], length: int | None, name: str) -> list[bytes]:
        """Return the signatures of this length; raise ``Unauthorized`` if there are none."""
        columns = self.columns
        signatures = []
        for text in texts:
            for encoding in columns.encodings:
                signature = ENCODINGS[encoding].decode(text)
                if signature is not None and length in (None, len(signature)):
                    signatures.append(signature)
        if signatures:
            return signatures
        form = f"{columns.prefix}<{' or '.join(columns.encodings)}>"
        if columns.separator:
            raise Unauthorized(f"{self.read}: has no signature {form}")
        raise Unauthorized(f"{self.read}: not {name} in the form {form}")

    def _fill(
        self,
        request: SourceRequest,
        timestamp: str,
        read: Callable[[Value, SourceRequest], str],
    ) -> list[bytes]:
        """Return the parts of the signed content; ``read`` returns a value of the request."""
        filled: list[bytes] = []
        for part in self.signed.parts:
            if isinstance(part, str):
                filled.append(part.encode())
            elif isinstance(part, Value):
                filled.append(encode(read(part, request)))
            elif part[0] == "body":
                filled.append(request.body)
            elif part[0] == "timestamp":
                filled.append(timestamp.encode())
            elif part[0] == "url":
                filled.append(request.url.encode("latin-1", "replace"))
            elif part[0] == "method":
                filled.append(request.method.encode())
            else:
                if request.body and not request.fields:  # or any body would go with the address
                    raise Unauthorized("form: the body is not a form that can be read")
                fields = sorted(set(request.fields))
                filled += (encode(name + text) for name, text in fields)
        return filled

    def prepare(
        self, request: SourceRequest, timestamp_s: int, message_id: str
    ) -> tuple[dict[str, str], list[bytes], str]:
        """Return the headers besides the signature, what it covers, and the timestamp.

        Headers that are signed, and that the request lacks, have the message id as their value.
        Raises ``ValueError``.
        """
        if self.read.place != "header":
            raise ValueError(f"signs in {self.read}, not in a header")
        columns = self.columns
        timestamp = format_time(timestamp_s, columns.unit) if columns.timestamp else ""
        headers: dict[str, str] = {}
        if self.timestamp is not None:
            headers[self.timestamp.name] = timestamp

        def read(value: Value, request: SourceRequest) -> str:
            texts = value.read_all(request)
            if texts or value.place != "header":
                return next(iter(texts), "")
            if not _PLAIN.fullmatch(message_id):
                raise ValueError("a message id must be printable ASCII without spaces")
            headers[value.name] = message_id
            return message_id

        return headers, self._fill(request, timestamp, read), timestamp

    def write(self, signature: bytes, timestamp: str) -> str:
        """Return the value that has the signature."""
        columns = self.columns
        text = columns.prefix * (not columns.prefix_optional)
        text += ENCODINGS[columns.encodings[0]].encode(signature)
        if self.element:
            text = f"{self.element}{timestamp}{columns.separator}{text}"
        return text

    def describe(self, algorithm: str) -> str:
        """Return the form in a few words."""
        columns = self.columns
        encodings = " or ".join(columns.encodings)
        return f"{self.read}: {columns.prefix}<{encodings}>, {algorithm} of {columns.signed}"


class Signed(NamedTuple):
    """The signatures of a request as text, and the parts of what they should cover."""

    texts: list[str]
    parts: list[bytes]


def _read_signed(value: Value, request: SourceRequest) -> str:
    text = value.read(request)
    if value.place == "header" and not _PLAIN.fullmatch(text):
        raise Unauthorized(f"{value}: not printable ASCII without spaces")
    return text


class SignedForm:
    """What the schemes with a signature share, before they have a secret."""

    __slots__ = ()
    content: SignedContent

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return "url" in self.content.signed.special

    @property
    def secret_values(self) -> tuple[Value, ...]:
        """The values that are secrets by themselves; a signature never is."""
        return ()


def compile_content(columns: SignedColumns) -> SignedContent:
    """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
    try:
        signed = parse_template(columns.signed)
    except ValueError as error:
        raise ValueError(f"signed: {error}") from None
    element, timestamp = "", None
    if columns.timestamp.startswith(_ELEMENT):
        element = columns.timestamp.removeprefix(_ELEMENT)
        if not element or not columns.separator:
            raise ValueError("timestamp: element: needs a prefix and a separator")
    elif columns.timestamp:
        timestamp = _parse("timestamp", columns.timestamp)
    if ("timestamp" in signed.special) != bool(columns.timestamp):
        raise ValueError("signed: {timestamp} and the column timestamp need each other")
    if not {"body", "form"} & signed.special and not signed.values:
        raise ValueError("signed: names nothing of the request")
    if not columns.encodings:
        raise ValueError("encodings: must name at least one")
    if not 1 <= columns.tolerance_s <= 86_400:
        raise ValueError(f"tolerance_s: must be 1 to 86400 (got {columns.tolerance_s})")
    try:
        absent = tuple(map(parse_pointer, columns.absent))
    except ValueError as error:
        raise ValueError(f"absent: {error}") from None
    return SignedContent(columns, _parse("read", columns.read), signed, timestamp, element, absent)


def _parse(column: str, text: str) -> Value:
    try:
        return parse_value(text)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def encode(text: str) -> bytes:
    """Return a value as bytes; JSON may contain lone surrogates."""
    return text.encode("utf-8", "surrogatepass")
