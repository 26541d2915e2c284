"""Positions in the order of arrival of a store in memory."""

from __future__ import annotations

import re

from portable_core.errors import BadRequest
from portable_core.records import MAX_INTEGER, Pair, format_sort_key, parse_sort_key

#: A position in the order of arrival: the number of a record in hexadecimal.
_POSITION = re.compile(r"[1-9a-f][0-9a-f]{0,12}")

#: A position after an imported record; all of them have the number 0.
_IMPORTED = re.compile(r"p([0-9a-f]{28})")

#: After all imported records.
_LAST = Pair(MAX_INTEGER + 1, 0)


def parse_number(position: str) -> tuple[int, Pair]:
    """Return the number of a position, and the pair after which reading continues within it.

    Raises ``BadRequest``.
    """
    if imported := _IMPORTED.fullmatch(position):
        return 0, parse_sort_key(imported[1])
    if position and not _POSITION.fullmatch(position):
        raise BadRequest("after: is not a position. Use one that the feed gave.")
    return (int(position, 16), _LAST) if position else (0, Pair(-1, 0))


def format_number(number: int, pair: Pair) -> str:
    return f"{number:x}" if number else f"p{format_sort_key(pair)}"
