"""Convert JSON documents into typed values, with errors that name the member at fault.

The form of a document is the declaration of its type: a :class:`msgspec.Struct` or a dataclass,
whose annotations carry the constraints.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True):
    """The problem document of an error (RFC 9457, section 3.1)."""

    title: str = ""
    detail: str = ""
    type: str = "about:blank"


#: The messages of msgspec: what was expected, and where.
_PLACE = r"(?: - at (?:`key` in )?`\$\.?(?P<place>.*)`)?"
_EXPECTED = re.compile(rf"Expected (?P<what>.*?){_PLACE}")
_UNKNOWN_VALUE = re.compile(rf"Invalid enum value (?P<given>.*?){_PLACE}")
_UNKNOWN_NAME = re.compile(rf"Object contains unknown field `(?P<name>.*?)`{_PLACE}")
_MISSING = re.compile(rf"Object missing required field `(?P<name>.*?)`{_PLACE}")


def convert_document(document: object, kind: type[T], name: str = "") -> T:
    """Return a JSON-ready value as a ``kind``. Unknown members are ignored.

    Raises ``ValueError`` with the message ``MEMBER: must be … (got …)`` or ``MEMBER: missing``;
    members are named as parts of ``name``.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_describe_fault(str(error), name)) from error


def _describe_fault(message: str, name: str) -> str:
    """Return a message of msgspec in the form of all other errors."""
    if match := _MISSING.fullmatch(message):
        return f"{_join(name, match['place'], match['name'])}: missing"
    if match := _UNKNOWN_NAME.fullmatch(message):
        return f"{_join(name, match['place'], match['name'])}: unknown"
    if match := _UNKNOWN_VALUE.fullmatch(message):
        return f"{_join(name, match['place'])}: must be a known value (got {match['given']})"
    match = _EXPECTED.fullmatch(message)
    if match is None:
        return message
    expected, got, given = match["what"].replace("`", "").partition(", got ")
    text = f"must be {expected}" + (f" (got {given})" if got else "")
    place = _join(name, match["place"])
    return f"{place}: {text}" if place else text


def _join(*names: str | None) -> str:
    return ".".join(name for name in names if name)
