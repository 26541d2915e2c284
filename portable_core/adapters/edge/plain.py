"""Reading a request that has come whole, in the form in which almost every webhook comes.

A plain request has nothing that needs interpretation: ``POST`` with a path, HTTP/1.1, no header
twice, one ``Host``, a body of known length that ends with the bytes received, and no header that
concerns the connection. For any other bytes :func:`read_plain` returns None, and llhttp parses them
(:mod:`.parser`): it accepts each plain request too, with the same result, at three times the cost.
"""

from __future__ import annotations

from typing import NamedTuple

from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.request import Header

#: The most bytes of a body, and of a head: larger requests come in several reads anyway.
MOST_BODY, _MOST_HEAD = 64 * 1024, 16 * 1024

#: The characters of a header's value, of a path with a query, and of a header's name (RFC 9110).
_TEXT = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_TARGET = bytes(set(range(0x21, 0x7F)) - set(b'"#<>\\^`{|}'))
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN = _LETTERS + b"0123456789!#$%&'*+-.^_`|~"

#: Headers that change how a message is read, or what becomes of the connection.
_INTERPRETED = frozenset(
    (
        b"connection",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

#: Names in lower case, by the spelling received. Only so many are remembered.
_names: dict[bytes, bytes] = {}
_MOST_NAMES, _LONGEST_NAME = 4096, 128

#: Digits of the largest length.
_MOST_DIGITS = 6


class Plain(NamedTuple):
    """A plain request. ``fields`` has the same headers by name."""

    target: bytes
    headers: list[Header]
    fields: dict[bytes, bytes]
    body: bytes


def read_plain(data: bytes, limits: EdgeLimits, max_body: int) -> Plain | None:
    """Return the request, None unless ``data`` is one plain request within the limits."""
    end = data.find(b"\r\n\r\n", 0, _MOST_HEAD)
    size = len(data) - end - 4
    if end < 0 or end > limits.head_bytes or size > min(MOST_BODY, max_body):
        return None
    head = data[:end]
    first, *lines = head.split(b"\r\n")
    target = first[5:-9]
    if (
        head.translate(None, _TEXT) != b"\r\n" * len(lines)  # a lone CR or LF, a control character
        or first[:6] != b"POST /"
        or first[-9:] != b" HTTP/1.1"
        or target.translate(None, _TARGET)
        or len(lines) > limits.headers
    ):
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines:
        given, colon, value = line.partition(b":")
        name = _names.get(given) or _read_name(given)
        if not (name and colon):
            return None
        fields[name] = value.strip(b" \t")
    length = fields.get(b"content-length", b"")
    if (
        len(fields) != len(lines)  # a header came twice
        or b"host" not in fields
        or not _INTERPRETED.isdisjoint(fields)
        or not length.isdigit()
        or len(length) > _MOST_DIGITS
        or int(length) != size
    ):
        return None
    return Plain(target, list(fields.items()), fields, data[end + 4 :])


def _read_name(given: bytes) -> bytes:
    """Return the name of a header in lower case, an empty one if it is invalid."""
    if given.translate(None, _TOKEN):
        return b""
    name = given.lower()
    if len(_names) < _MOST_NAMES and 0 < len(given) <= _LONGEST_NAME:
        _names[given] = name
    return name
