"""Validate a node's JSON responses field by field.

The address of a master may be wrong, and another program may respond there. ``AnswerInvalid`` then
names the member that is missing or invalid, in one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from portable_core.errors import AnswerInvalid
from portable_core.records import MAX_INTEGER

#: Ends a message about a response that no master sends.
DOUBT = ". Is --master the address of a master?"

_NAMES: Mapping[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number that is not negative",
    int: f"an integer of 0 to {MAX_INTEGER}",
    list: "a list",
    str: "a string",
}
_Kind = TypeVar("_Kind")


def parse_document(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object that the master has sent. Raises ``AnswerInvalid``."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"the response is not JSON ({error}){DOUBT}") from error
    return as_object(document)


def _refuse_constant(name: str) -> None:
    """Reject ``NaN`` and ``Infinity``, which Python's parser accepts."""
    raise ValueError(f"{name} is not JSON")


def as_object(value: object) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object. Raises ``AnswerInvalid``."""
    if not isinstance(value, dict):
        raise AnswerInvalid(f"the response is not a JSON object{DOUBT}")
    return value


def get(document: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind:
    """Return the member ``name``, of this kind. Raises ``AnswerInvalid``.

    Numbers are not negative, and integers are within the range that every JSON parser keeps exact.
    """
    value: Any = document.get(name)
    if kind is float and type(value) is int:
        value = float(min(value, MAX_INTEGER))
    if not _fits(value, kind):
        problem = f"must be {_NAMES[kind]}" if name in document else "missing"
        raise AnswerInvalid(f"the response is invalid: {name}: {problem}{DOUBT}")
    fitting: _Kind = value
    return fitting


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, float | int) and not 0 <= value <= MAX_INTEGER:
        return False
    return type(value) is kind  # a bool is an int to Python, but not to JSON


def find(document: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind | None:
    """Return the same for a member that may be null or missing."""
    return None if document.get(name) is None else get(document, name, kind)
