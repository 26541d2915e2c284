"""Payload bytes -> canonical bytes -> hash.

The canonical bytes of a payload are its JSON value, written in one way:

- no white space;
- an object's members in the order of the code points of their keys;
- strings in UTF-8 with the fewest escapes;
- integers digit by digit; other numbers with their exact decimal value (:func:`.format_float`).

Canonical bytes are JSON, and their own canonical bytes. Different values have different canonical
bytes. RFC 8259 leaves two choices open: ``1`` and ``1.0`` differ, since a number with a fraction or
an exponent is not an integer; and zero has no sign, so ``-0`` is ``0`` and ``-0.0`` is ``0.0``.

The fast path is msgspec's parser and orjson's writer. The parser keeps integers exact and passes on
the text of every other number, so that no float is ever made. One of the two rejects every value
that this path cannot represent, in any spelling, and the exact path handles it: integers beyond 64
bits, lone surrogates, and nesting beyond orjson's 254 levels. Malformed payloads go there too, and
are rejected with the offset of the fault. ``docs/hash.md`` has the reasons and the figures.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from itertools import islice
from sys import getrecursionlimit
from typing import Any

import msgspec
import orjson

from portable_core.errors import MalformedPayload, PayloadTooComplex
from portable_core.payload_hash.algorithms import ALGORITHMS, check_algorithm
from portable_core.payload_hash.exact import (
    MAX_DEPTH,
    MOST_LEVELS,
    canonicalize_exactly,
    format_float,
)
from portable_core.payload_hash.pointers import (
    ABSENT,
    Pointer,
    read_canonical,
    read_member,
    remove_canonical,
    remove_member,
)

__all__ = [
    "ALGORITHMS",
    "LARGE",
    "MAX_DEPTH",
    "MAX_VALUES",
    "canonicalize",
    "canonicalize_parts",
    "canonicalize_value",
    "check_algorithm",
    "hash_payload",
    "is_plain",
    "read_values",
]

#: The most ``,`` ``[`` and ``{`` outside strings: a bound of the values, and thus of the memory.
MAX_VALUES = 1 << 20

#: The values of a payload of more bytes are counted before it is parsed, and only one such payload
#: is parsed at a time. A smaller payload cannot have more than :data:`MAX_VALUES` values.
LARGE = MAX_VALUES

# Nested calls for which the stack of any thread has room; msgspec's need 300 bytes each. It is not
# more than the levels of the exact path, which so accepts every payload that the fast one accepts.
_DEEP = MOST_LEVELS

_one_at_a_time = threading.Lock()

_COMPUTE = {name: algorithm.compute for name, algorithm in ALGORITHMS.items()}
_dump = orjson.dumps
_Fragment = orjson.Fragment
_SORTED = orjson.OPT_SORT_KEYS
_SORTED_53_BITS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER

# The text up to a separator outside strings, or to the end. It matches anywhere outside strings and
# never backtracks, so its time is linear.
_find_separators = re.compile(
    rb'(?:[^",\[{]++|"(?:[^"\\]++|\\.)*+["\\]?+)*+(?:([,\[{])|\Z)', re.DOTALL
).finditer
# A whole number token of value zero with a minus sign.
_find_minus_zero = re.compile(
    rb"-0(?<=[,:\[ \t\r\n]-0)(?:\.0*+)?+(?:[eE][-+]?[0-9]++)?+(?=[,\]} \t\r\n])"
).search


def hash_payload(payload: bytes, algorithm: str = "crc32c", key: bytes = b"") -> int:
    """Return the hash of a payload: an integer of 32 bits (``crc32c``) or 53 bits (``blake2b``).

    Equal JSON values have equal hashes. Raises :class:`.MalformedPayload` as :func:`canonicalize`
    does, and ``SettingsError`` for an unknown algorithm or an invalid key.
    """
    compute = _COMPUTE.get(algorithm) or check_algorithm(algorithm).compute
    if len(payload) <= LARGE:
        return compute(_canonicalize(payload), key)
    with _one_at_a_time:
        return compute(_canonicalize_large(payload), key)


def canonicalize(payload: bytes) -> bytes:
    """Return the canonical bytes of a payload: a JSON text (RFC 8259) whose top is an object.

    Raises :class:`.MalformedPayload` for any other bytes, with the offset of the fault, and its
    subclass ``PayloadTooComplex`` for more than :data:`MAX_VALUES` values or :data:`MAX_DEPTH`
    levels.
    """
    if len(payload) <= LARGE:
        return _canonicalize(payload)
    with _one_at_a_time:
        return _canonicalize_large(payload)


def canonicalize_parts(
    payload: bytes, select: Sequence[Pointer], without: Sequence[Pointer]
) -> tuple[bytes, list[bytes | None]]:
    """Return the canonical bytes of a payload less some members, and those of others.

    ``without`` names the members that are removed; members that are absent count as removed.
    ``select`` names the values that are returned beside it, in its order, None for absent ones;
    they are read before anything is removed. Raises what :func:`canonicalize` raises.
    """
    if len(payload) <= LARGE:
        return _canonicalize_parts(payload, select, without)
    with _one_at_a_time:
        _check_values(payload)
        return _canonicalize_parts(payload, select, without)


def canonicalize_value(payload: bytes, without: Sequence[Pointer] = ()) -> bytes | None:
    """Return the canonical bytes of any JSON value, less some members; None for a rare value.

    Rare values are those outside objects that no fast parser represents: integers beyond 64 bits,
    lone surrogates. They count byte for byte. Raises what :func:`canonicalize` raises.
    """
    if payload.lstrip(b" \t\r\n").startswith(b"{"):
        return canonicalize_parts(payload, (), without)[0]
    if len(payload) <= LARGE:
        return _canonicalize_value(payload, without)
    with _one_at_a_time:
        _check_values(payload)
        return _canonicalize_value(payload, without)


def read_values(payload: bytes, select: Sequence[Pointer]) -> list[bytes | None]:
    """Return the canonical bytes of the values that ``select`` names in a body of any kind.

    None stands for absent ones, and for all of them in a body that is not JSON.
    """
    if getrecursionlimit() > _DEEP and _is_deep(payload):
        return [None] * len(select)
    try:
        if len(payload) > LARGE:
            _check_values(payload)
        value = _load(payload)
        found = [read_member(value, pointer) for pointer in select]
        return [None if v is ABSENT else _dump(v, None, _SORTED) for v in found]
    except (ValueError, TypeError, RecursionError, PayloadTooComplex):
        return [None] * len(select)


def is_plain(payload: bytes) -> bool:
    """Return whether every common JSON reader preserves the payload's value exactly.

    A plain payload is well-formed and has

    - no lone surrogates, no repeated keys, no minus zero;
    - only integers within 53 bits;
    - only such other numbers as a double represents exactly, from ±1e-4 to ±1e15 and not whole (a
      reader may write ``1.0`` as ``1``).

    False is always safe: it is also returned for a few payloads that are plain.
    """
    if len(payload) <= LARGE:
        return _is_plain(payload)
    with _one_at_a_time:
        try:
            _check_values(payload)
        except PayloadTooComplex:
            return False
        return _is_plain(payload)


def _canonicalize(payload: bytes) -> bytes:
    if len(payload) <= _DEEP or getrecursionlimit() <= _DEEP or not _is_deep(payload):
        try:
            value = _load(payload)
            if type(value) is dict:
                return _dump(value, None, _SORTED)
        except (ValueError, TypeError, RecursionError):
            # msgspec: malformed, a lone surrogate, an integer of thousands of digits, too deep.
            # orjson: an integer beyond 64 bits, too deep.
            pass
        value = None  # frees its memory, since the exact path needs as much
    return canonicalize_exactly(payload)


def _canonicalize_parts(
    payload: bytes, select: Sequence[Pointer], without: Sequence[Pointer]
) -> tuple[bytes, list[bytes | None]]:
    if len(payload) <= _DEEP or getrecursionlimit() <= _DEEP or not _is_deep(payload):
        try:
            value = _load(payload)
            if type(value) is dict:
                found = [read_member(value, pointer) for pointer in select]
                texts = [None if v is ABSENT else _dump(v, None, _SORTED) for v in found]
                for pointer in without:
                    removed = remove_member(value, pointer)
                    if removed is not ABSENT:
                        _dump(removed, None, _SORTED)  # raises for values of the exact path
                return _dump(value, None, _SORTED), texts
        except (ValueError, TypeError, RecursionError):  # as in _canonicalize
            pass
        value = None  # frees its memory, since the exact path needs as much
    canonical = canonicalize_exactly(payload)
    texts = [read_canonical(canonical, pointer) for pointer in select]
    for pointer in without:
        canonical = remove_canonical(canonical, pointer)
    return canonical, texts


def _canonicalize_value(payload: bytes, without: Sequence[Pointer]) -> bytes | None:
    if getrecursionlimit() > _DEEP and _is_deep(payload):
        raise PayloadTooComplex("nested too deep")
    try:
        value = _load(payload)
        for pointer in without:
            remove_member(value, pointer)
        return _dump(value, None, _SORTED)
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        json.loads(payload.decode(), parse_int=str, parse_float=str, parse_constant=_reject)
    except RecursionError:
        raise PayloadTooComplex("nested too deep") from None
    except ValueError as error:
        raise MalformedPayload(f"not a JSON value: {error}") from None
    return None


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _canonicalize_large(payload: bytes) -> bytes:
    _check_values(payload)
    return _canonicalize(payload)


def _is_plain(payload: bytes) -> bool:
    if getrecursionlimit() > _DEEP and _is_deep(payload):
        return False
    try:
        canonical = _dump(_load_plain(payload), None, _SORTED_53_BITS)
    except (ValueError, TypeError, RecursionError, _NotPlainError):
        return False
    # A member that a repeated key drops has a colon, and only an escape can compensate for it.
    return (
        payload.count(b":") == canonical.count(b":")
        and b"\\u003a" not in payload
        and b"\\u003A" not in payload
        and not _find_minus_zero(payload)
    )


class _NotPlainError(Exception):
    """A number that readers may not preserve exactly."""


def _read_float(text: str) -> orjson.Fragment:
    """Return a number with a fraction or an exponent as a text that orjson writes unchanged."""
    # Canonical already, as most senders write it: no exponent, no zero at the end, at most 16
    # digits before the point, and not so small that it needs an exponent.
    if (
        text[-1] != "0"
        and "." in text[:17]
        and "0.00000" not in text[:8]
        and "e" not in text
        and "E" not in text
    ):
        return _Fragment(text)
    return _Fragment(format_float(text))


def _read_plain_float(text: str) -> float:
    value = float(text)
    if (
        1e-4 <= abs(value) < 1e15
        and not value.is_integer()
        and format_float(repr(value)) == format_float(text)
    ):
        return value
    raise _NotPlainError


_load = msgspec.json.Decoder(float_hook=_read_float).decode
_load_plain = msgspec.json.Decoder(dict[str, Any], float_hook=_read_plain_float).decode


def _check_values(payload: bytes) -> None:
    """Raise :class:`PayloadTooComplex` for too many values, usually at the speed of memory."""
    separators = payload.count(b",") + payload.count(b"[") + payload.count(b"{")
    if separators > MAX_VALUES:  # count again without those in strings, which is slower
        found = (match for match in _find_separators(payload) if match.lastindex)
        separators = sum(1 for _ in islice(found, MAX_VALUES + 1))
    if separators > MAX_VALUES:
        raise PayloadTooComplex(f"more than {MAX_VALUES} values")


def _is_deep(payload: bytes) -> bool:
    """Return whether nesting could overflow the C stack, if Python's limit were raised above it."""
    return payload.count(b"[") + payload.count(b"{") > _DEEP
