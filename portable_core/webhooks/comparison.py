"""Compare two records, member by member and header by header, as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portable_core.payload_hash.differences import Float, compare_members
from portable_core.payload_hash.pointers import ABSENT
from portable_core.records import Meta, Record

MOST_MEMBERS = 200

#: Characters of a value that are shown, and of an equal beginning before the first difference.
MOST_CHARACTERS = 400
_CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its two values as text; None for an absent value."""

    name: str
    one: str | None
    other: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two records.

    - ``same_bytes``: the bodies are equal byte for byte.
    - ``body``: the members that differ, named by JSON Pointers; one line with an empty name if the
      bodies differ as a whole or cannot be compared by members. ``more``: there are further ones.
    - ``head``: what differs of the metadata; ``equal_headers``: the number of headers that do not.
    """

    same_bytes: bool
    body: Sequence[Line]
    more: bool
    head: Sequence[Line]
    equal_headers: int


def compare_records(one: Record, other: Record) -> Comparison:
    """Return the differences of two records."""
    members = compare_members(one.payload, other.payload, MOST_MEMBERS + 1)
    if one.payload == other.payload:
        body = []
    elif members is None:
        body = [_make_line("", *(r.payload.decode("utf-8", "replace") for r in (one, other)))]
    else:
        body = [_make_line(name, *map(_write, values)) for name, *values in members]
    headers = one.meta.headers.items() & other.meta.headers.items()
    return Comparison(
        one.payload == other.payload,
        body[:MOST_MEMBERS],
        len(body) > MOST_MEMBERS,
        [line for line in _compare_meta(one.meta, other.meta) if line.one != line.other],
        len(headers),
    )


def _compare_meta(one: Meta, other: Meta) -> Iterator[Line]:
    for name in ("source", "query", "key", "rule"):
        yield _make_line(name, getattr(one, name) or None, getattr(other, name) or None)
    for name in sorted(one.headers.keys() | other.headers.keys()):
        yield _make_line(f"header {name}", one.headers.get(name), other.headers.get(name))


def _make_line(name: str, one: str | None, other: str | None) -> Line:
    """Return a line with the part of each text around their first difference."""
    if one is None or other is None:
        return Line(name, *(None if text is None else _clip(text, 0) for text in (one, other)))
    start = 0
    if max(len(one), len(other)) > MOST_CHARACTERS:
        start = max(0, _count_equal(one, other) - _CONTEXT)
    return Line(name, _clip(one, start), _clip(other, start))


def _count_equal(one: str, other: str) -> int:
    """Return the length of the longest common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _clip(text: str, start: int) -> str:
    end = start + MOST_CHARACTERS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _write(value: Any) -> str | None:
    """Return a parsed value as JSON; None for an absent one."""
    if value is ABSENT:
        return None
    try:
        return _write_value(value)
    except RecursionError:
        return "…"


def _write_value(value: Any) -> str:
    if isinstance(value, Float):
        return value.text
    if isinstance(value, dict):
        members = (f"{json.dumps(k, ensure_ascii=False)}: {_write_value(value[k])}" for k in value)
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class SharedLine:
    """A name with its value in each of several records; None for an absent value."""

    name: str
    values: Sequence[str | None]

    @property
    def marks(self) -> Sequence[bool]:
        """For each record, whether its value is another one than that of the first."""
        return [value != self.values[0] for value in self.values]


def compare_all(records: Sequence[Record]) -> tuple[list[SharedLine], list[SharedLine]]:
    """Return the members of the bodies, and the metadata, in which some record differs from the
    first one.
    """
    found = [compare_records(records[0], other) for other in records[1:]]
    bodies, heads = [each.body for each in found], [each.head for each in found]
    return _join_lines(bodies), _join_lines(heads)


def _join_lines(compared: Sequence[Sequence[Line]]) -> list[SharedLine]:
    by_name = [{line.name: line for line in lines} for lines in compared]
    firsts = {line.name: line.one for lines in reversed(compared) for line in lines}
    joined = []
    for name in dict.fromkeys(line.name for lines in compared for line in lines):
        others = [lines[name].other if name in lines else firsts[name] for lines in by_name]
        joined.append(SharedLine(name, [firsts[name], *others]))
    return joined
