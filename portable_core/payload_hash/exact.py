"""Canonical bytes for any payload that RFC 8259 allows: slow, exact, and never recursive.

This path is a few regular expressions over bytes and one loop. It has none of a parser's limits: on
the size of a number, on lone surrogates, on the depth of Python's stack. It decides which payloads
are malformed, and where. :mod:`.canonical` uses it for the payloads that its fast path cannot
represent; for all others both paths return the same bytes.

No value is ever built: each token is written as soon as it is read. An object whose members are out
of order is noted when it closes; at the end all such objects are sorted, and each byte is copied
once.
"""

from __future__ import annotations

import decimal
import json
import operator
import re
from array import array
from bisect import bisect_left
from itertools import islice, zip_longest
from typing import NamedTuple

from portable_core.errors import MalformedPayload, PayloadTooComplex

#: The deepest nesting of arrays and objects; the top object is level 1. Members that a repeated key
#: drops do not count, as on the fast path, which never sees them.
MAX_DEPTH = 500

#: The deepest nesting of anything, dropped members included.
MOST_LEVELS = 5_000

# Possessive quantifiers (*+, ?+) never backtrack: time is linear on any input.
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

# Adds integers of any length in linear time; Python's int needs quadratic time to read one.
_add = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN).add


def canonicalize_exactly(payload: bytes) -> bytes:
    """Return the canonical bytes of ``payload``, as :func:`.canonical.canonicalize` defines them.

    Raises :class:`MalformedPayload` with the offset of the first invalid byte, and
    :class:`PayloadTooComplex` for nesting beyond :data:`MAX_DEPTH` or :data:`MOST_LEVELS`. The
    caller has checked the number of values.
    """
    position = _skip_space(payload, 0)
    if payload[position : position + 1] != b"{":
        raise _describe_top(payload, position)
    written = bytearray()
    moved: dict[int, _Members] = {}
    outer: list[tuple[bytes, list[bytes], list[int], dict[int, int]]] = []
    # The innermost open container: its closing bracket, the keys of its members, the offset of each
    # in `written`, and by index the members nested too deep with their positions in the payload.
    closing, keys, starts = b"", [], []  # type: tuple[bytes, list[bytes], list[int]]
    deep: dict[int, int] = {}
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
            outer.append((closing, keys, starts, deep))
            if len(outer) > MOST_LEVELS:
                raise _too_deep(position)
            bracket = match["open"]
            written += bracket
            closing, keys, starts = _CLOSING[bracket], [], []
            deep = {_ITSELF: position} if len(outer) > MAX_DEPTH else {}
            position = match.end()
            if payload[position : position + 1] != closing:
                continue
        else:
            written += _read_scalar(match, position)
            position = match.end()
        while True:  # a comma follows, or the container ends, and perhaps those around it
            match = _match_next(payload, position)
            if match is None or (match[1] != b"," and match[1] != closing):
                raise _describe(payload, position, f"expected ',' or '{closing.decode()}'")
            position = match.end()
            if match[1] == b",":
                written += b","
                break
            if len(keys) > 1 and not all(map(operator.lt, keys, islice(keys, 1, None))):
                starts.append(len(written) + 1)  # as if another member followed
                order = _order_members(keys)
                moved[starts[0] - 1] = _Members(order, array("Q", starts))
                if deep:
                    deep = {index: deep[index] for index in order if index in deep}
            written += closing
            too_deep = min(deep.values(), default=None)
            closing, keys, starts, deep = outer.pop()
            if too_deep is not None:
                deep.setdefault(len(keys) - 1, too_deep)
            if not outer:
                if too_deep is not None:
                    raise _too_deep(too_deep)
                if position < len(payload):
                    raise MalformedPayload("the payload continues after the object", position)
                return _put_in_order(written, moved)


#: The index of a container that is too deep itself, among those of its members.
_ITSELF = -1


def _too_deep(position: int) -> PayloadTooComplex:
    return PayloadTooComplex(f"nested deeper than {MAX_DEPTH} levels", position)


class _Members(NamedTuple):
    """Sort information for one object.

    ``order`` lists its effective members by key; ``starts`` holds the offset of every member in the
    output, and the end, as if a comma followed the last one.
    """

    order: array[int]
    starts: array[int]


def _order_members(keys: list[bytes]) -> array[int]:
    """Return the members in the order of their keys; of a repeated key, the last one counts."""
    order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: equal keys stay in order
    return array(
        "Q",
        (
            index
            for index, following in zip_longest(order, islice(order, 1, None))
            if following is None or keys[index] != keys[following]
        ),
    )


def _put_in_order(written: bytearray, moved: dict[int, _Members]) -> bytes:
    """Return the output, with sorted members of the objects whose braces are at ``moved``."""
    if not moved:
        return bytes(written)
    braces = sorted(moved)
    source, result = memoryview(written), bytearray()
    ranges = [(0, len(written))]  # to be copied, the next one last
    while ranges:
        start, end = ranges.pop()
        at = bisect_left(braces, start)
        if at == len(braces) or braces[at] >= end:
            result += source[start:end]
            continue
        brace = braces[at]
        order, starts = moved[brace]
        result += source[start : brace + 1]
        object_end = starts[-1] - 1
        ranges.append((object_end, end))
        if bisect_left(braces, object_end) == at + 1:  # no object within it is out of order
            for index in order:
                result += source[starts[index] : starts[index + 1] - 1]
                result += b","
            del result[-1:]
            continue
        comma = (starts[1] - 1, starts[1])
        for index in reversed(order):
            ranges += (starts[index], starts[index + 1] - 1), comma
        del ranges[-1]
    return bytes(result)


def format_float(text: str) -> str:
    """Return the canonical text of a number with a fraction or an exponent; its value stays exact.

    A number is ±d₁.d₂…dₙ × 10ᵉ, where neither the first nor the last digit is zero. It is written
    with a point and digits on both sides of it if -5 ≤ e < 16 (``0.00001``, ``100.0``), otherwise
    as ``d₁.d₂…dₙe±E`` (``1e-6``, ``1.5e+300``). Zero is ``0.0``, without a sign.

    Raises ``ValueError`` if ``text`` is not a number of RFC 8259, section 6.
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
    """Return a key's characters in UTF-8, which sort like code points, and its canonical bytes.

    A lone surrogate, which is not valid in UTF-8, is encoded as any other code point.
    """
    text = _decode_utf8(token, position)
    if "\\" not in text:
        return token[1:-1], token
    text = _decode_string(text)
    return text.encode("utf-8", "surrogatepass"), _encode(text)


def _read_scalar(match: re.Match[bytes], position: int) -> bytes:
    """Return the canonical bytes of the number, string or literal at ``position``."""
    kind = match.lastgroup or ""
    token = match[kind]
    if kind == "string":
        text = _decode_utf8(token, position)
        return _encode(_decode_string(text)) if "\\" in text else token
    if kind == "float":
        return format_float(token.decode()).encode()
    return b"0" if token == b"-0" else token


def _encode(text: str) -> bytes:
    """Return a string as JSON; a lone surrogate, invalid in UTF-8, as its escape ``\\ud83d``."""
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
    """Return the fault at ``position``, or within the broken string that begins there."""
    begun = _match_open_string(payload, position)
    if begun and not _match_string(payload, position):
        position = begun.end()
        expected = "a string contains a control character or an invalid escape"
    if position == len(payload):
        return MalformedPayload("the payload ends too early", position)
    return MalformedPayload(expected, position)
