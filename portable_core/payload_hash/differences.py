"""Name the members in which two payloads differ.

For people: a provider that puts an attempt counter or the id of an endpoint into the body makes
copies of one webhook that never match. The names of the members that differ are what a rule of the
source (:mod:`.identity`) has to leave out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from portable_core.payload_hash.canonical import LARGE
from portable_core.payload_hash.exact import format_float


class _Float(NamedTuple):
    """A number with a fraction or an exponent, in its canonical form."""

    text: str


_load = msgspec.json.Decoder(float_hook=lambda text: _Float(format_float(text))).decode


def find_differences(one: bytes, other: bytes, limit: int = 16) -> tuple[str, ...] | None:
    """Return the JSON Pointers of the members in which two payloads differ, in order.

    A member that only one of them has is named itself; an array of another length is named as a
    whole. None if more than ``limit`` differ, or if they cannot be compared: larger than 1 MiB,
    nested too deep, or not JSON objects.
    """
    if max(len(one), len(other)) > LARGE:
        return None
    try:
        pair = _load(one), _load(other)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, dict) for value in pair):
        return None
    found: list[str] = []
    waiting: list[tuple[str, Any, Any]] = [("", *pair)]
    while waiting:
        path, left, right = waiting.pop()
        if type(left) is dict and type(right) is dict:
            for name in left.keys() ^ right.keys():
                found.append(f"{path}/{_escape(name)}")
            waiting += [(f"{path}/{_escape(n)}", left[n], right[n]) for n in left.keys() & right]
        elif type(left) is list and type(right) is list and len(left) == len(right):
            items = enumerate(zip(left, right, strict=True))
            waiting += [(f"{path}/{index}", *both) for index, both in items]
        elif type(left) is not type(right) or left != right:
            found.append(path)
        if len(found) > limit:
            return None
    return tuple(sorted(found))


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
