"""Pairs and records in JSON (RFC 8259): one array, whose ``]`` is the closing mark.

Pairs are the numbers ``[hash1,timestamp1,hash2,timestamp2,…]``. A record is an object with the
members ``hash``, ``timestamp``, ``data`` (the payload) or ``raw`` (base64 of its bytes), and
``meta`` unless it is empty, in any order. Other members are ignored; of a repeated member the last
counts. ``raw`` carries payloads that a common JSON reader would change, or that have white space
around the object.

The readers divide the text into elements themselves, and a JSON parser reads each element: a number
ends at the next comma, a record where its braces, outside strings, are closed. So the payload stays
byte for byte as it was sent, none of its numbers and strings is ever converted, and the cost is
linear in the bytes, whatever the chunks. A parser that makes events or values of the whole text
offers neither: ijson 3.6 ends the process on an integer of 4,301 digits, reads a lone surrogate as
a question mark, and scans a long string again with each chunk.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import orjson

from portable_core.errors import MalformedStream, StreamTooLarge
from portable_core.payload_hash.canonical import is_plain
from portable_core.records import Meta, Pair, Record
from portable_core.wire.base import (
    DEFAULT_LIMITS,
    OWN_CHUNK_BYTES,
    PairReader,
    Reader,
    WireLimits,
    check_integer,
    flatten_pairs,
    not_an_integer,
    quote,
)

_SPACE = b" \t\n\r"

#: An integer of some 63 bits, and a text that the next chunk may complete to one.
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")
_INTEGER_START = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})?")


class JsonEncoding:
    """``application/json``: about 25 bytes a pair; for people with curl, and for any client."""

    media_type = "application/json"

    def encode_pairs(self, pairs: Iterable[Pair], chunk_pairs: int = 2048) -> Iterator[bytes]:
        opening = b"["
        for values in flatten_pairs(pairs, chunk_pairs):
            yield opening + orjson.dumps(values)[1:-1]
            opening = b","
        yield b"[]" if opening == b"[" else b"]"

    def read_pairs(self) -> Reader[Pair]:
        return _PairReader()

    def encode_records(self, records: Iterable[Record]) -> Iterator[bytes]:
        opening = b"["
        for record in records:
            yield from _encode_record(opening, record)
            opening = b",\n"
        yield b"[]" if opening == b"[" else b"]"

    def read_records(self, limits: WireLimits = DEFAULT_LIMITS) -> Reader[Record]:
        return _RecordReader(limits)


def _encode_record(opening: bytes, record: Record) -> Iterator[bytes]:
    (timestamp, hash_), payload = record.pair, record.payload
    head = b'%b{"hash":%d,"timestamp":%d,' % (opening, hash_, timestamp)
    meta = b',"meta":' + orjson.dumps(record.meta.to_mapping()) if record.meta else b""
    # As "data" it would lose white space around the object, which a signature may cover.
    if payload.startswith(b"{") and payload.endswith(b"}") and is_plain(payload):
        head, tail = head + b'"data":', meta + b"}"
    else:
        payload = base64.b64encode(payload)
        head, tail = head + b'"raw":"', b'"' + meta + b"}"
    if len(payload) < OWN_CHUNK_BYTES:
        yield head + payload + tail
    else:
        yield head
        yield payload
        yield tail


class _PairReader(PairReader):
    def __init__(self) -> None:
        super().__init__()
        self._opened = False
        self._commas = False
        self._rest = b""
        self._decode = msgspec.json.Decoder(list[int]).decode

    def _read(self, data: bytes, items: list[Pair]) -> None:
        if not self._opened:
            data = data.lstrip(_SPACE)
            if not data:
                return
            if not data.startswith(b"["):
                raise MalformedStream(f"the stream must be a JSON array (got {quote(data)})", 0)
            self._opened = True
            data = data[1:]
        if self._closed:
            _check_trailing(data, self._count)
            return
        text = self._rest + data
        # Between the brackets there are only numbers, so the first `]` is the closing mark.
        end = text.find(b"]")
        cut = text.rfind(b",") if end < 0 else end
        if cut >= 0:
            self._read_numbers(text[:cut], items, last=end >= 0)
        if end >= 0:
            self._close(items)
            _check_trailing(text[end + 1 :], self._count + len(items))
            return
        self._keep_rest(text[cut + 1 :], items)

    def _read_numbers(self, text: bytes, items: list[Pair], *, last: bool) -> None:
        """Add the numbers of ``text``, which ends before a comma or, if ``last``, before ``]``."""
        empty = not text.strip(_SPACE)
        if empty and last and not self._commas:
            return
        self._commas = True
        try:
            if empty:
                raise ValueError("no number")
            values = self._decode(b"[%b]" % text)
        except (ValueError, RecursionError):
            self._read_tokens(text, items)
        else:
            self._add(values, items)

    def _read_tokens(self, text: bytes, items: list[Pair]) -> None:
        """Add the numbers one by one, to find the number at fault."""
        values: list[Any] = []
        for token in text.split(b","):
            token = token.strip(_SPACE)
            if not _INTEGER.fullmatch(token):
                self._add(values, items)
                element, name = self._next_value(items)
                raise not_an_integer(name, quote(token), element)
            values.append(int(token))
        self._add(values, items)

    def _keep_rest(self, rest: bytes, items: list[Pair]) -> None:
        """Keep the beginning of a number for the next chunk, without the space around it."""
        token = rest.strip(_SPACE)
        if not _INTEGER_START.fullmatch(token):
            element, name = self._next_value(items)
            raise not_an_integer(name, quote(token), element)
        self._rest = token + b" " if token and rest[-1:] in _SPACE else token


class _Element(msgspec.Struct, frozen=True):
    """A record as it is written. A ``Raw`` member is validated, but not converted."""

    hash: int
    timestamp: int
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    raw: str | msgspec.UnsetType = msgspec.UNSET
    meta: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# Each of these matches at any position, the empty text if nothing else.

#: From a position between elements to the next byte that is not white space.
_TO_TOKEN = re.compile(rb"[ \t\n\r]*+")

#: From a position outside strings to the next brace, or to the quote of a string without an end.
_TO_BRACE = re.compile(rb'[^"{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}]*+)*+', re.DOTALL)

#: From a position inside a string to its end, or to a backslash that is the last byte.
_TO_QUOTE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

_QUOTE, _OPENING, _CLOSING = b'"{}'


class _RecordReader(Reader[Record]):
    noun = "records"

    def __init__(self, limits: WireLimits) -> None:
        super().__init__()
        self._limits = limits
        self._decode = msgspec.json.Decoder(_Element).decode
        # Between two elements: the bytes that may come next, besides white space.
        self._expected = b"["
        # Inside an element: its text so far, the number of open braces, whether a string is open.
        self._text = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def _read(self, data: bytes, items: list[Record]) -> None:
        position = 0
        while position < len(data):
            if self._depth:
                position = self._read_element(data, position, items)
            elif self._closed:
                _check_trailing(data[position:], self._count + len(items))
                return
            else:
                position = self._read_between(data, position, items)

    def _read_between(self, data: bytes, position: int, items: list[Record]) -> int:
        """Read ``[``, ``,``, ``]`` or the first byte of an element; return the next position."""
        position = _TO_TOKEN.match(data, position).end()  # type: ignore[union-attr]  # it always matches
        byte = data[position : position + 1]
        if byte not in self._expected:
            expected = " or ".join(f"`{chr(byte)}`" for byte in self._expected)
            raise MalformedStream(
                f"{expected} is expected (got `{quote(data[position : position + 20])}`)",
                self._count + len(items),
            )
        if not byte:
            return position
        if byte == b"{":
            self._depth = 1
            self._text = bytearray(byte)
            self._expected = b",]"
        elif byte == b"]":
            self._closed = True
        else:
            self._expected = b"{]" if byte == b"[" else b"{"
        return position + 1

    def _read_element(self, data: bytes, start: int, items: list[Record]) -> int:
        """Read to the end of the element, or of ``data``; return the next position."""
        position, length = start, len(data)
        while position < length and self._depth:
            if self._in_string:
                position = self._read_string(data, position)
                continue
            position = _TO_BRACE.match(data, position).end()  # type: ignore[union-attr]  # it always matches
            if position == length:
                break
            byte = data[position]
            position += 1
            if byte == _QUOTE:
                self._in_string = True
            else:
                self._depth += 1 if byte == _OPENING else -1
        self._text += data[start:position]
        index = self._count + len(items)
        if len(self._text) > self._limits.element_bytes:
            raise StreamTooLarge(f"must have at most {self._limits.element_bytes} bytes", index)
        if not self._depth:
            text, self._text = self._text, bytearray()
            items.append(self._build(text, index))
        return position

    def _read_string(self, data: bytes, position: int) -> int:
        """Read to the end of the string, or of ``data``; return the next position."""
        if self._escaped:
            self._escaped = False
            return position + 1
        position = _TO_QUOTE.match(data, position).end()  # type: ignore[union-attr]  # it always matches
        if position < len(data):
            if data[position] == _QUOTE:
                self._in_string = False
            else:
                self._escaped = True
            position += 1
        return position

    def _build(self, text: bytearray, index: int) -> Record:
        """Return the record of one element's whole text."""
        try:
            if not text.isascii():
                text.decode()
            element = self._decode(text)
        except RecursionError as error:
            raise StreamTooLarge(
                "data: nested too deeply; send the payload as raw", index
            ) from error
        except ValueError as error:
            raise MalformedStream(str(error), index) from error
        check_integer("hash", element.hash, index)
        check_integer("timestamp", element.timestamp, index)
        return Record(
            Pair(element.timestamp, element.hash),
            _extract_payload(element, index),
            self._extract_meta(element, index),
        )

    def _extract_meta(self, element: _Element, index: int) -> Meta:
        if isinstance(element.meta, msgspec.UnsetType):
            return Meta()
        text = bytes(element.meta)
        if len(text) > self._limits.meta_bytes:
            raise StreamTooLarge(f"meta: must have at most {self._limits.meta_bytes} bytes", index)
        try:
            return Meta.from_mapping(msgspec.json.decode(text))
        except (ValueError, RecursionError) as error:
            raise MalformedStream(str(error), index) from error


def _extract_payload(element: _Element, index: int) -> bytes:
    data, raw = element.data, element.raw
    if isinstance(data, msgspec.UnsetType) == isinstance(raw, msgspec.UnsetType):
        raise MalformedStream("must have either data or raw", index)
    if isinstance(raw, msgspec.UnsetType):
        return bytes(data)  # type: ignore[arg-type]  # one of the two is set
    try:
        # Even the strict mode ignores padding after a complete group (Python 3.11).
        if len(raw) % 4 or raw.endswith("==="):
            raise ValueError("wrong padding")
        return binascii.a2b_base64(raw, strict_mode=True)
    except ValueError as error:
        raise MalformedStream(f"raw: must be base64 ({error})", index) from error


def _check_trailing(data: bytes, index: int) -> None:
    if data.strip(_SPACE):
        raise MalformedStream(
            f"the stream continues after the closing `]` (got {quote(data)})", index
        )
