"""Conversion of JSON documents: an error names the member at fault."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from portable_core.documents import convert_document
from portable_core.records import Integer


class Inner(msgspec.Struct):
    count: Integer
    names: Mapping[str, str] = {}


class Outer(msgspec.Struct):
    inner: Inner
    numbers: list[float] = []


def test_a_document_and_its_unknown_members() -> None:
    document = {"inner": {"count": 2**53 - 1, "more": None}, "numbers": [1, 1.5], "more": [1]}
    assert convert_document(document, Outer) == Outer(Inner(2**53 - 1), [1.0, 1.5])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "must be object (got null)"),
        ([], "must be object (got array)"),
        ({}, "inner: missing"),
        ({"inner": {}}, "inner.count: missing"),
        ({"inner": {"count": True}}, "inner.count: must be int (got bool)"),
        ({"inner": {"count": 1.0}}, "inner.count: must be int (got float)"),
        ({"inner": {"count": -1}}, "inner.count: must be int >= 0"),
        ({"inner": {"count": 2**53}}, "inner.count: must be int <= 9007199254740991"),
        ({"inner": {"count": 10**5000}}, "inner.count: must be int <= 9007199254740991"),
        ({"inner": {"count": 1, "names": {"a": 1}}}, "inner.names[...]: must be str (got int)"),
        ({"inner": {"count": 1}, "numbers": [1, "x"]}, "numbers[1]: must be float (got str)"),
    ],
)
def test_an_error_names_the_member(document: object, message: str) -> None:
    with pytest.raises(ValueError) as failed:  # noqa: PT011  # its message is compared
        convert_document(document, Outer)
    assert str(failed.value) == message
