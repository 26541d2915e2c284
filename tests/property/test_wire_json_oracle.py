"""The JSON readers accept what the standard library's parser accepts, and see the same values."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given

from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from tests.support.laws.wire_streams import JSON, Kind, damaged, read

PAIRS = Kind(JSON, "pairs")
RECORDS = Kind(JSON, "records")


#: RFC 4648, section 4.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class NotJson(ValueError):
    """The oracle's verdict."""


def load(text: bytes) -> Any:
    """The value, numbers exact. RFC 8259 only: no NaN, no byte order mark, no lone surrogate."""

    def refuse(constant: str) -> Any:
        raise NotJson(constant)

    try:
        decoded = text.decode()
        # json keeps repeated members' last value, as the readers do
        value = json.loads(decoded, parse_float=Decimal, parse_int=parse, parse_constant=refuse)
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except ValueError as error:
        raise NotJson(str(error)) from error
    return value


def parse(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < 4000 else Decimal(digits)


def is_integer(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def judge_pairs(text: bytes) -> list[Pair]:
    values = load(text)
    if not isinstance(values, list) or not all(map(is_integer, values)) or len(values) % 2:
        raise NotJson("not integers, two by two")
    pairs = [Pair(*pair) for pair in zip(values[1::2], values[::2], strict=True)]
    if any(later.timestamp < pair.timestamp for pair, later in pairwise(pairs)):
        raise NotJson("out of order")
    return pairs


def judge_record(element: Any) -> tuple[Pair, Any, Meta]:
    if not isinstance(element, dict) or ("data" in element) is ("raw" in element):
        raise NotJson("not a record")
    if not is_integer(element.get("hash")) or not is_integer(element.get("timestamp")):
        raise NotJson("not a pair")
    try:
        meta = Meta.from_mapping(element.get("meta", {}))
        payload = element["data"] if "data" in element else decode(element["raw"])
    except ValueError as error:
        raise NotJson(str(error)) from error
    return Pair(element["timestamp"], element["hash"]), payload, meta


def decode(raw: object) -> bytes:
    if not isinstance(raw, str) or not _BASE64.fullmatch(raw):
        raise NotJson("not base64")
    return base64.b64decode(raw)


def see(record: Record, expected: Any) -> tuple[Pair, Any, Meta]:
    payload = record.payload if isinstance(expected, bytes) else load(record.payload)
    return record.pair, payload, record.meta


@given(damaged(PAIRS.streams) | PAIRS.streams)
def test_pairs(text: bytes) -> None:
    outcome = read(PAIRS.reader(), [text])
    try:
        expected = judge_pairs(text)
    except NotJson:
        assert outcome.error is not None
        assert not outcome.whole
        return
    assert outcome.error is None
    assert outcome.items == expected


@given(damaged(RECORDS.streams) | RECORDS.streams)
def test_records(text: bytes) -> None:
    outcome = read(RECORDS.reader(), [text])
    try:
        elements = load(text)
        if not isinstance(elements, list):
            raise NotJson("not an array")
        expected = [judge_record(element) for element in elements]
    except NotJson:
        assert outcome.error is not None
        assert not outcome.whole
        return
    assert outcome.error is None
    assert [
        see(item, payload) for item, (_, payload, _) in zip(outcome.items, expected, strict=True)
    ] == expected
