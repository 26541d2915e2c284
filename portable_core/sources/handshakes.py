"""Handshakes: requests by which a provider verifies an address, and their responses.

A row lists them: conditions, and the response as templates of values of the request. A value in a
response is bounded, and escaped for the type of the response; the type is never HTML. A value whose
HMAC is part of a response has only characters that occur in random tokens: otherwise a caller could
obtain the signature of a webhook.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol
from xml.sax.saxutils import escape

import msgspec

from portable_core.errors import BadRequest
from portable_core.sources.encodings import ENCODINGS, EncodingName
from portable_core.sources.request import SourceRequest
from portable_core.sources.values import Template, Value, parse_template, parse_value

Method = Literal["GET", "HEAD", "OPTIONS", "POST"]
MediaType = Literal["text/plain", "application/json", "application/xml", ""]

#: Longest value of a request in a response.
MAX_VALUE_CHARACTERS = 1024

#: A condition that any value satisfies.
ANY = "*"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}")


class HmacOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HMAC of one value, which templates name ``{hmac}``."""

    of: str
    encoding: EncodingName = "hex"


class HandshakeColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the column ``handshake``.

    - ``methods``: of the request.
    - ``when``: values by name that the request has, ``*`` for any value; all of them.
    - ``signed``: whether the provider signs the request.
    - ``status``, ``type``, ``body``, ``headers``: of the response.
    - ``hmac``: what ``{hmac}`` in ``body`` stands for.
    - ``reveal``: the value with the secret that the provider chooses; it is logged.
    """

    methods: tuple[Method, ...] = ("POST",)
    when: dict[str, str] = {}
    signed: bool = False
    status: Literal[200, 202, 204] = 200
    type: MediaType = "text/plain"
    body: str = ""
    headers: dict[str, str] = {}
    hmac: HmacOf | None = None
    reveal: str = ""

    def compile(self) -> Handshake:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        if not self.methods:
            raise ValueError("methods: must name at least one")
        if "POST" in self.methods and not self.when:
            raise ValueError("when: a handshake by POST needs a condition, or nothing is stored")
        special = ("hmac",) if self.hmac else ()
        try:
            when = {parse_value(name): text for name, text in self.when.items()}
        except ValueError as error:
            raise ValueError(f"when: {error}") from None
        try:
            body = parse_template(self.body, special)
        except ValueError as error:
            raise ValueError(f"body: {error}") from None
        try:
            headers = {name: parse_template(text, ()) for name, text in self.headers.items()}
        except ValueError as error:
            raise ValueError(f"headers: {error}") from None
        for name in headers:
            if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name):
                raise ValueError(f"headers: {name[:60]!r} is not the name of a header")
        try:
            of = parse_value(self.hmac.of) if self.hmac else None
            reveal = parse_value(self.reveal) if self.reveal else None
        except ValueError as error:
            raise ValueError(f"hmac or reveal: {error}") from None
        return Handshake(self, when, body, headers, of, reveal)


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a handshake. ``reveal`` is the secret that the provider has sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    reveal: str = ""


class Keyed(Protocol):
    """What makes an HMAC with the secret of a source."""

    def digest(self, parts: list[bytes]) -> bytes: ...


@dataclass(frozen=True, slots=True, eq=False)
class Handshake:
    """One handshake of a row."""

    columns: HandshakeColumns
    when: Mapping[Value, str]
    body: Template
    headers: Mapping[str, Template]
    hmac_of: Value | None
    reveal: Value | None

    def matches(self, request: SourceRequest) -> bool:
        """Return whether a request is this handshake."""
        return request.method in self.columns.methods and all(
            (values := name.read_all(request)) and (wanted == ANY or values == [wanted])
            for name, wanted in self.when.items()
        )

    def answer(self, request: SourceRequest, schemes: tuple[Keyed, ...]) -> Answer:
        """Return the response. Raises ``BadRequest`` for a value that no provider sends."""
        kind = self.columns.type
        special: dict[str, tuple[bytes, ...]] = {}
        if self.hmac_of is not None and self.columns.hmac is not None:
            text = _read(self.hmac_of, request)
            if not _TOKEN.fullmatch(text):
                raise BadRequest(f"{self.hmac_of}: is not a random token, so it is not signed")
            digest = schemes[0].digest([text.encode()])
            special["hmac"] = (ENCODINGS[self.columns.hmac.encoding].encode(digest).encode(),)
        values = {value: _escape(_read(value, request), kind) for value in self.body.values}
        body = b"".join(self.body.fill(values, special))
        headers = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
        if kind:
            charset = "" if kind == "application/json" else "; charset=utf-8"
            headers.append(("Content-Type", kind + charset))
        for name, template in self.headers.items():
            found = {v: _escape(_read(v, request), "") for v in template.values}
            headers.append((name, b"".join(template.fill(found, {})).decode("ascii")))
        revealed = "" if self.reveal is None else _read(self.reveal, request)
        return Answer(self.columns.status, tuple(headers), body, revealed)


def _read(value: Value, request: SourceRequest) -> str:
    values = value.read_all(request)
    if len(values) != 1:
        raise BadRequest(f"{value}: must occur once in a handshake (got {len(values)})")
    if len(values[0]) > MAX_VALUE_CHARACTERS:
        raise BadRequest(f"{value}: longer than {MAX_VALUE_CHARACTERS} characters")
    if not values[0].isprintable():
        raise BadRequest(f"{value}: contains characters that are not printable")
    return values[0]


def _escape(text: str, kind: str) -> bytes:
    if kind == "application/json":
        return json.dumps(text)[1:-1].encode()
    if kind == "application/xml":
        return escape(text, {'"': "&quot;"}).encode()
    if not kind and not text.isascii():
        raise BadRequest("a value in a header of the response contains characters beyond ASCII")
    return text.encode()
