"""Name the members in which two payloads differ.

For people: a provider that puts an attempt counter or the id of an endpoint into the body makes
copies of one webhook that never match. The names of the members that differ are what a rule of the
source (:mod:`.identity`) has to leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from portable_core.payload_hash.canonical import LARGE
from portable_core.payload_hash.exact import format_float
from portable_core.payload_hash.pointers import ABSENT


class Float(NamedTuple):
    """A number with a fraction or an exponent, in its canonical form."""

    text: str


class Difference(NamedTuple):
    """A member in which two payloads differ: its JSON Pointer and its two values.

    A value is parsed JSON with :class:`Float` for floats, or :data:`.ABSENT`.
    """

    pointer: str
    one: Any
    other: Any


_load = msgspec.json.Decoder(float_hook=lambda text: Float(format_float(text))).decode


def find_differences(one: bytes, other: bytes, limit: int = 16) -> tuple[str, ...] | None:
    """Return the JSON Pointers of the members in which two payloads differ, in order.

    None if more than ``limit`` differ, or if they cannot be compared: see :func:`compare_members`,
    or not JSON objects.
    """
    pair = _load_both(one, other)
    if pair is None or not all(isinstance(value, dict) for value in pair):
        return None
    found = [difference.pointer for difference in islice(_walk(*pair), limit + 1)]
    return None if len(found) > limit else tuple(sorted(found))


def compare_members(one: bytes, other: bytes, limit: int) -> list[Difference] | None:
    """Return ``limit`` of the members in which two payloads differ at most, in order.

    A member that only one of them has is named itself; an array of another length is named as a
    whole, as is the payload if the two have different types. None if they cannot be compared: not
    JSON, larger than 1 MiB, or nested too deep.
    """
    pair = _load_both(one, other)
    if pair is None:
        return None
    return sorted(islice(_walk(*pair), limit), key=lambda difference: difference.pointer)


def _load_both(one: bytes, other: bytes) -> tuple[Any, Any] | None:
    if max(len(one), len(other)) > LARGE:
        return None
    try:
        return _load(one), _load(other)
    except (ValueError, RecursionError):
        return None


def _walk(one: Any, other: Any) -> Iterator[Difference]:
    waiting: list[Difference] = [Difference("", one, other)]
    while waiting:
        pair = waiting.pop()
        path, left, right = pair
        if type(left) is dict and type(right) is dict:
            for name in left.keys() ^ right.keys():
                both = left.get(name, ABSENT), right.get(name, ABSENT)
                yield Difference(f"{path}/{_escape(name)}", *both)
            waiting += [
                Difference(f"{path}/{_escape(name)}", left[name], right[name])
                for name in left.keys() & right
            ]
        elif type(left) is list and type(right) is list and len(left) == len(right):
            items = enumerate(zip(left, right, strict=True))
            waiting += [Difference(f"{path}/{index}", *both) for index, both in items]
        elif type(left) is not type(right) or left != right:
            yield pair


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
