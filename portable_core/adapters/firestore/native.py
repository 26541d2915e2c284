"""The ``data`` field: the payload as a native Firestore map, for queries, if that is possible.

The payload's bytes are authoritative. The map is a copy that may be missing; the record then states
the reason. A map is only stored if it equals the payload: no value is rounded, renamed or cut.
Firestore cannot hold (pages "Quotas and limits" and "Data types"):

- an array directly in an array;
- maps and arrays more than 20 deep, the field itself counted;
- a field name that is empty, longer than 1,500 bytes, or begins and ends with two underscores;
- text that is not UTF-8 (a lone surrogate);
- an integer beyond 64 bits, or a number that a 64-bit float does not hold.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

_MAX_DEPTH = 20
_MAX_NAME_BYTES = 1500
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_INT64 = range(-(2**63), 2**63)


class NotNative(Exception):
    """Firestore cannot hold the payload as a map; the message is the reason."""


def fill_map(payload: bytes, target: Any) -> None:
    """Fill ``target``, an empty ``Value`` message, with ``payload``. Raise ``NotNative``."""
    try:
        value = _DECODER.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotNative(f"not plain JSON: {error}") from error
    if not isinstance(value, dict):
        raise NotNative("the top level is not an object")
    _fill(target, value, 1)


def _read_number(text: str) -> float:
    number = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation as error:
        raise NotNative(f"the number {text[:40]} has too large an exponent") from error
    if abs(number) == float("inf") or Decimal(repr(number)) != exact:
        raise NotNative(f"the number {text[:40]} has more digits than a 64-bit float holds")
    return number


_DECODER = msgspec.json.Decoder(float_hook=_read_number)


def _fill(target: Any, value: Any, depth: int) -> None:
    if isinstance(value, str):
        target.string_value = _check_text(value)
    elif value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.boolean_value = value
    elif isinstance(value, int):
        if value not in _INT64:
            raise NotNative("an integer has more than 64 bits")
        target.integer_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif depth > _MAX_DEPTH:
        raise NotNative(f"it is nested more than {_MAX_DEPTH} deep")
    elif isinstance(value, dict):
        target.map_value.SetInParent()
        for name, item in value.items():
            _fill(target.map_value.fields[_check_name(name)], item, depth + 1)
    else:
        target.array_value.SetInParent()
        for item in value:
            if isinstance(item, list):
                raise NotNative("an array lies directly in an array")
            _fill(target.array_value.values.add(), item, depth + 1)


def _check_text(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NotNative("a text holds a lone surrogate") from error
    return text


def is_name(name: str) -> bool:
    """Return whether Firestore accepts a field of this name."""
    try:
        return bool(_check_name(name))
    except NotNative:
        return False


def _check_name(name: str) -> str:
    if not name or len(_check_text(name).encode()) > _MAX_NAME_BYTES:
        raise NotNative(f"a name is empty or longer than {_MAX_NAME_BYTES} bytes")
    if _RESERVED.fullmatch(name):
        raise NotNative(f"the name {name[:40]!r} is reserved")
    return name
