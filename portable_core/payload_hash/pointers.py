"""JSON Pointers (RFC 6901) into a payload: read members, and remove them.

A pointer is applied in two ways that agree: to a parsed value, and to canonical bytes. The second
needs no parser, so it serves payloads that no parser holds exactly.

Two restrictions keep the result independent of the order of several pointers: a pointer names
something inside the payload, never the whole; and only members of objects are removed, never the
elements of an array. A pointer may lead through an array by an element's index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

#: The most characters and the most tokens of a pointer.
MAX_CHARACTERS = 256
MAX_TOKENS = 16

#: What :func:`read_member` returns for a pointer that leads nowhere. (None is JSON's null.)
ABSENT = object()

_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_match_string = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL).match
_match_scalar = re.compile(rb"[^,\]}]++").match
# Strings whole, so that brackets inside them do not count.
_find_brackets = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([\[{])|([\]}])', re.DOTALL).finditer


@dataclass(frozen=True, slots=True, order=True)
class Pointer:
    """A parsed pointer; ``text`` is its form in RFC 6901, ``tokens`` are unescaped."""

    text: str
    tokens: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


def parse_pointer(text: str) -> Pointer:
    """Return the pointer that ``text`` names (RFC 6901, section 3). Raises ``ValueError``."""
    if not text.startswith("/"):
        raise ValueError(f"a JSON Pointer starts with / (got {text[:40]!r})")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a JSON Pointer has at most {MAX_CHARACTERS} characters")
    if _ESCAPE.search(text):
        raise ValueError(f"in a JSON Pointer, ~ is followed by 0 or 1 (got {text[:40]!r})")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a JSON Pointer contains a lone surrogate") from None
    tokens = tuple(t.replace("~1", "/").replace("~0", "~") for t in text[1:].split("/"))
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"a JSON Pointer has at most {MAX_TOKENS} parts")
    return Pointer(text, tokens)


# -- in a parsed value -----------------------------------------------------------------------------


def read_member(value: Any, pointer: Pointer) -> Any:
    """Return what ``pointer`` names in a parsed JSON value, or :data:`ABSENT`."""
    for token in pointer.tokens:
        value = _step(value, token)
        if value is ABSENT:
            return ABSENT
    return value


def remove_member(value: Any, pointer: Pointer) -> Any:
    """Remove the member that ``pointer`` names, in place, and return it or :data:`ABSENT`."""
    *path, last = pointer.tokens
    for token in path:
        value = _step(value, token)
    return value.pop(last, ABSENT) if type(value) is dict else ABSENT


def _step(value: Any, token: str) -> Any:
    if type(value) is dict:
        return value.get(token, ABSENT)
    if type(value) is list and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    return ABSENT


# -- in canonical bytes ----------------------------------------------------------------------------


def read_canonical(text: bytes, pointer: Pointer) -> bytes | None:
    """Return the canonical bytes of what ``pointer`` names in ``text``, None if it is absent."""
    start = 0
    for token in pointer.tokens:
        found = _find(text, start, token)
        if found is None:
            return None
        start = found.value
    return text[start : _skip(text, start)]


def remove_canonical(text: bytes, pointer: Pointer) -> bytes:
    """Return ``text`` without the member that ``pointer`` names; both are canonical."""
    start = 0
    *path, last = pointer.tokens
    for token in path:
        found = _find(text, start, token)
        if found is None:
            return text
        start = found.value
    if text[start : start + 1] != b"{":
        return text
    found = _find(text, start, last)
    if found is None:
        return text
    end = _skip(text, found.value)
    if text[end : end + 1] == b",":
        return text[: found.member] + text[end + 1 :]
    # The last member: the comma before it goes too, if there is one.
    before = found.member - (text[found.member - 1 : found.member] == b",")
    return text[:before] + text[end:]


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a member or an element starts, and where its value starts."""

    member: int
    value: int


def _find(text: bytes, start: int, token: str) -> _Found | None:
    opening = text[start : start + 1]
    if opening == b"{":
        key = orjson.dumps(token)
        return next((found for name, found in _members(text, start) if name == key), None)
    if opening == b"[" and _INDEX.fullmatch(token):
        wanted = int(token)
        for index, found in enumerate(_elements(text, start)):
            if index == wanted:
                return found
    return None


def _members(text: bytes, start: int) -> Iterator[tuple[bytes, _Found]]:
    at = start + 1
    while text[at : at + 1] == b'"':
        match = _match_string(text, at)
        assert match is not None  # noqa: S101  # canonical bytes are well-formed
        value = match.end() + 1
        yield match[0], _Found(at, value)
        at = _skip(text, value) + 1


def _elements(text: bytes, start: int) -> Iterator[_Found]:
    at = start + 1
    while text[at : at + 1] != b"]":
        yield _Found(at, at)
        at = _skip(text, at)
        at += text[at : at + 1] == b","


def _skip(text: bytes, start: int) -> int:
    """Return the end of the value that starts at ``start``."""
    opening = text[start : start + 1]
    if opening == b'"':
        match = _match_string(text, start)
    elif opening in (b"{", b"["):
        return _skip_container(text, start)
    else:
        match = _match_scalar(text, start)
    assert match is not None  # noqa: S101  # canonical bytes are well-formed
    return match.end()


def _skip_container(text: bytes, start: int) -> int:
    depth = 0
    for match in _find_brackets(text, start):
        if match.lastindex == 1:
            depth += 1
        elif match.lastindex == 2:
            depth -= 1
            if depth == 0:
                return match.end()
    raise AssertionError("canonical bytes are well-formed")
