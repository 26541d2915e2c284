"""Differences of payloads as people would name them."""

from __future__ import annotations

import pytest

from portable_core.payload_hash.differences import find_differences


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b'{"id":1,"attempt":1}', b'{"attempt":2,"id":1}', ("/attempt",)),
        (b'{"a":{"b":[{"n":1},{"n":2}]}}', b'{"a":{"b":[{"n":1},{"n":3}]}}', ("/a/b/1/n",)),
        (b'{"a":[1,2]}', b'{"a":[1,2,3]}', ("/a",)),
        (b'{"a":1}', b'{"b":1}', ("/a", "/b")),
        (b'{"a/b":1,"~":2}', b'{"a/b":2,"~":3}', ("/a~1b", "/~0")),
        (b'{"a":1}', b'{"a":1.0}', ("/a",)),
        (b'{"a":true}', b'{"a":1}', ("/a",)),
        (b'{"a":"1.5"}', b'{"a":1.5}', ("/a",)),
        (b'{"a":1}', b'{"a":1}', ()),
        (b'{"a":1}', b"[1]", None),
        (b'{"a":1}', b"{", None),
        (b'{"a":1}', b'{"a":%s1%s}' % (b"[" * 5000, b"]" * 5000), None),
    ],
)
def test_differences(one: bytes, other: bytes, expected: tuple[str, ...] | None) -> None:
    assert find_differences(one, other) == expected


def test_too_many_are_none() -> None:
    one = b'{"a":{%s}}' % b",".join(b'"%d":1' % n for n in range(20))
    assert find_differences(one, b'{"a":{}}', limit=16) is None
    assert find_differences(one, b'{"a":{}}', limit=20) is not None
