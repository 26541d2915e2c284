"""Canonical bytes for any payload that RFC 8259 allows: slow, exact, and never recursive.

This path is a few regular expressions over bytes and one loop. It has none of a parser's limits:
no size of a number, no lone surrogate, no depth of Python's stack. It is the authority on what
is malformed, and where. :mod:`portable_core.canonical` takes it for the payloads that its fast path
cannot hold; on all others both give the same bytes.

No value is ever built: what is read is written at once, and when an object closes, its members are
put in order where they stand.
"""

from __future__ import annotations

import decimal
import json
import operator
import re
from itertools import islice, zip_longest

from portable_core.errors import MalformedPayload, PayloadTooComplex

#: How deep arrays and objects may be nested; the top object is level 1.
MAX_DEPTH = 500

# Possessive quantifiers (*+, ?+) never give back what they took: time is linear on any input.
_SPACE = rb"[ \t\n\r]*+"
_OPEN_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+'
_STRING = _OPEN_STRING + b'"'
_match_space = re.compile(_SPACE).match
_match_open_string = re.compile(_OPEN_STRING).match
_match_string = re.compile(_STRING).match
_match_key = re.compile(b"(" + _STRING + b")" + _SPACE + b":" + _SPACE).match
_match_value = re.compile(
    b"(?:(?P<string>" + _STRING + b")"
    rb"|(?P<open>[\[{])"
    rb"|(?P<literal>true|false|null)"
    rb"|(?P<integer>-?(?:0|[1-9][0-9]*+)(?![.eE]))"
    rb"|(?P<float>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+)"
    rb")" + _SPACE
).match
_match_next = re.compile(rb"([,\]}])" + _SPACE).match
_CLOSING = {b"{": b"}", b"[": b"]"}
_match_float = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([-+]?[0-9]+))?").fullmatch
_decode_string = json.JSONDecoder().decode
_encode_string = json.JSONEncoder(ensure_ascii=False).encode

# Adds integers of any length in linear time; to read one, Python's own int needs quadratic time.
_add = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN).add


def canonicalize_exactly(payload: bytes) -> bytes:
    """The canonical bytes of ``payload``, as :func:`portable_core.canonical.canonicalize` says.

    Raises :class:`MalformedPayload` with the offset of the first byte that cannot be right, or
    :class:`PayloadTooComplex` for nesting beyond :data:`MAX_DEPTH`. The number of values is
    bounded by the caller, before.
    """
    position = _skip_space(payload, 0)
    if payload[position : position + 1] != b"{":
        raise _describe_top(payload, position)
    written = bytearray()
    outer: list[tuple[bytes, list[bytes], list[int]]] = []
    # Of the innermost open container: how it ends, its members' keys, and where each is written.
    closing, keys, starts = b"", [], []  # type: tuple[bytes, list[bytes], list[int]]
    while True:
        if closing == b"}":
            match = _match_key(payload, position)
            if match is None:
                raise _describe_key(payload, position)
            key, name = _read_key(match[1], position)
            keys.append(key)
            starts.append(len(written))
            written += name
            written += b":"
            position = match.end()
        match = _match_value(payload, position)
        if match is None:
            raise _describe(payload, position, "expected a value")
        if match.lastgroup == "open":
            outer.append((closing, keys, starts))
            if len(outer) > MAX_DEPTH:
                raise PayloadTooComplex(f"nested deeper than {MAX_DEPTH} levels", position)
            bracket = match["open"]
            written += bracket
            closing, keys, starts = _CLOSING[bracket], [], []
            position = match.end()
            if payload[position : position + 1] != closing:
                continue
        else:
            written += _read_scalar(match, position)
            position = match.end()
        while True:  # a comma follows, or the container ends, and perhaps the one around it
            match = _match_next(payload, position)
            if match is None or (match[1] != b"," and match[1] != closing):
                raise _describe(payload, position, f"expected ',' or '{closing.decode()}'")
            position = match.end()
            if match[1] == b",":
                written += b","
                break
            if len(keys) > 1:
                _sort_members(written, keys, starts)
            written += closing
            closing, keys, starts = outer.pop()
            if not outer:
                if position < len(payload):
                    raise MalformedPayload("something follows the object", position)
                return bytes(written)


def _sort_members(written: bytearray, keys: list[bytes], starts: list[int]) -> None:
    """Put the last object's members in the order of their keys.

    Of a repeated key, the last value counts.
    """
    if all(map(operator.lt, keys, islice(keys, 1, None))):
        return
    first = starts[0]
    source = bytes(memoryview(written)[first:])
    del written[first:]
    starts.append(first + len(source) + 1)
    order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: equal keys stay as they came
    for index, following in zip_longest(order, islice(order, 1, None)):
        if following is None or keys[index] != keys[following]:
            written += source[starts[index] - first : starts[index + 1] - 1 - first]
            written += b","
    del written[-1:]


def format_float(text: str) -> str:
    """The canonical text of a number with a fraction or an exponent; its decimal value is kept.

    A number is ±d₁.d₂…dₙ × 10ᵉ, where neither the first nor the last digit is zero. It is written
    with a point and digits on both sides of it if -5 ≤ e < 16 (``0.00001``, ``100.0``), otherwise
    as ``d₁.d₂…dₙe±E`` (``1e-6``, ``1.5e+300``). Zero is ``0.0``, without a sign.

    Raises ``ValueError`` if ``text`` is no number of RFC 8259, section 6.
    """
    match = _match_float(text)
    if match is None:
        raise ValueError(f"not a number: {text[:40]!r}")
    sign, whole, fraction, exponent = match.groups("")
    written = whole + fraction
    digits = written.lstrip("0")
    if not digits:
        return "0.0"
    power = len(whole) - 1 - (len(written) - len(digits))
    digits = digits.rstrip("0")
    if len(exponent) > 18:
        total = str(_add(decimal.Decimal(exponent), power))
        if len(total) > 18:
            return _format_scientific(sign, digits, total if total[0] == "-" else f"+{total}")
        power = int(total)
    elif exponent:
        power += int(exponent)
    if not -5 <= power < 16:
        return _format_scientific(sign, digits, f"{power:+d}")
    if power < 0:
        return f"{sign}0.{'0' * (-1 - power)}{digits}"
    point = power + 1
    return f"{sign}{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"


def _format_scientific(sign: str, digits: str, exponent: str) -> str:
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{exponent}"


def _read_key(token: bytes, position: int) -> tuple[bytes, bytes]:
    """The key's characters in UTF-8, whose order is that of the code points; its canonical bytes.

    A lone surrogate, which UTF-8 does not know, is written as if it did.
    """
    text = _decode_utf8(token, position)
    if "\\" not in text:
        return token[1:-1], token
    text = _decode_string(text)
    return text.encode("utf-8", "surrogatepass"), _encode(text)


def _read_scalar(match: re.Match[bytes], position: int) -> bytes:
    """The canonical bytes of the number, string or literal that was found at ``position``."""
    kind = match.lastgroup or ""
    token = match[kind]
    if kind == "string":
        text = _decode_utf8(token, position)
        return _encode(_decode_string(text)) if "\\" in text else token
    if kind == "float":
        return format_float(token.decode()).encode()
    return b"0" if token == b"-0" else token


def _encode(text: str) -> bytes:
    """A string as JSON; a lone surrogate, which UTF-8 cannot hold, as its escape ``\\ud83d``."""
    return _encode_string(text).encode("utf-8", "backslashreplace")


def _decode_utf8(token: bytes, position: int) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError as error:
        raise MalformedPayload("invalid UTF-8", position + error.start) from error


def _skip_space(payload: bytes, position: int) -> int:
    match = _match_space(payload, position)
    return match.end() if match else position


def _describe_top(payload: bytes, position: int) -> MalformedPayload:
    if position == len(payload):
        return MalformedPayload("the payload is empty", position)
    if payload.startswith(b"\xef\xbb\xbf"):
        return MalformedPayload("the payload begins with a byte order mark", 0)
    return MalformedPayload("the top level is not an object", position)


def _describe_key(payload: bytes, position: int) -> MalformedPayload:
    match = _match_string(payload, position)
    if match is None:
        return _describe(payload, position, "expected a key in quotes")
    return _describe(payload, _skip_space(payload, match.end()), "expected ':'")


def _describe(payload: bytes, position: int, expected: str) -> MalformedPayload:
    """What is wrong at ``position``, or within the broken string that begins there."""
    begun = _match_open_string(payload, position)
    if begun and not _match_string(payload, position):
        position = begun.end()
        expected = "a string holds a control character or a wrong escape"
    if position == len(payload):
        return MalformedPayload("the payload ends too early", position)
    return MalformedPayload(expected, position)
