"""Convert a node's JSON responses into typed values.

The address of a master may be wrong, and another program may respond there. ``AnswerInvalid`` then
names the member that is missing or invalid, in one line.
"""

from __future__ import annotations

import json
from typing import TypeVar

from portable_core.documents import convert_document
from portable_core.errors import AnswerInvalid

T = TypeVar("T")

#: Ends a message about a response that no master sends.
DOUBT = ". Is --master the address of a master?"


def parse_json(text: bytes, doubt: str = DOUBT) -> object:
    """Return the JSON document that ``text`` is. Raises ``AnswerInvalid``, ending in ``doubt``."""
    try:
        document: object = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"the response is not JSON ({error}){doubt}") from error
    return document


def _reject_constant(name: str) -> None:
    """Reject ``NaN`` and ``Infinity``, which Python's parser accepts."""
    raise ValueError(f"{name} is not JSON")


def parse_response(text: bytes, kind: type[T], doubt: str = DOUBT) -> T:
    """Return the JSON document that ``text`` is, as a ``kind``. Raises ``AnswerInvalid``."""
    return convert_response(parse_json(text, doubt), kind, doubt)


def convert_response(document: object, kind: type[T], doubt: str = DOUBT) -> T:
    """Return a JSON document as a ``kind``. Raises ``AnswerInvalid``."""
    try:
        return convert_document(document, kind)
    except ValueError as error:
        raise AnswerInvalid(f"the response is invalid: {error}{doubt}") from error
