"""What a node answered to a command: read member by member, and shown so that nothing obeys it.

An address may be wrong, and behind it anything may answer. So a member is what it has to be, or
``AnswerInvalid`` says in one line which one is not.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from portable_core.errors import AnswerInvalid
from portable_core.records import MAX_INTEGER

#: Ends a message about an answer that no master gives.
DOUBT = "; is there a master? (--master names it)"

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
    """A JSON object that the master has sent. Raises ``AnswerInvalid``."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"the answer is not JSON ({error}){DOUBT}") from error
    return as_object(document)


def _refuse_constant(name: str) -> None:
    """``NaN`` and ``Infinity``, which Python's reader would take."""
    raise ValueError(f"{name} is none")


def as_object(value: object) -> dict[str, Any]:
    """``value``, which is a JSON object. Raises ``AnswerInvalid``."""
    if not isinstance(value, dict):
        raise AnswerInvalid(f"the answer is no JSON object{DOUBT}")
    return value


def get(document: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind:
    """The member of that name, of that kind; numbers are not negative, and integers such as every
    JSON reader holds exactly. Raises ``AnswerInvalid``."""
    value: Any = document.get(name)
    if kind is float and type(value) is int:
        value = float(min(value, MAX_INTEGER))
    if not _fits(value, kind):
        problem = f"must be {_NAMES[kind]}" if name in document else "missing"
        raise AnswerInvalid(f"the answer is not what a master says: {name}: {problem}{DOUBT}")
    fitting: _Kind = value
    return fitting


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, float | int) and not 0 <= value <= MAX_INTEGER:
        return False
    return type(value) is kind  # a bool is an int to Python, but not to JSON


def find(document: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind | None:
    """The same of a member that may be null or missing."""
    return None if document.get(name) is None else get(document, name, kind)


def printable(text: str, keep: str = "") -> str:
    """One line of it, without what a terminal would obey; a sign that is ``keep`` stays."""
    return "".join(
        sign if sign.isprintable() or sign == keep else f"\\u{ord(sign):04x}" for sign in text
    )


def drop_output() -> None:
    """Forget what could not be written to standard output, so that the end does not try again."""
    sys.stdout = io.StringIO()
