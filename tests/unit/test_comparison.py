"""The differences of two records as text."""

from __future__ import annotations

import pytest

from portable_core.records import Meta, Pair, Record
from portable_core.webhooks.comparison import (
    MOST_CHARACTERS,
    MOST_MEMBERS,
    Comparison,
    Line,
    compare_all,
    compare_records,
)


def compare(one: bytes, other: bytes) -> Comparison:
    return compare_records(Record(Pair(1, 1), one), Record(Pair(2, 2), other))


@pytest.mark.parametrize(
    ("one", "other", "lines"),
    [
        (b'{"a":1,"b":2}', b'{ "b": 2, "a": 1 }', []),
        (b'{"a":1}', b'{"a":2}', [Line("/a", "1", "2")]),
        (b'{"a":1.50}', b'{"a":"1.5"}', [Line("/a", "1.5", '"1.5"')]),
        (b'{"a":null}', b"{}", [Line("/a", "null", None)]),
        (b"{}", b'{"a":{"b":[true,"\\u00e9"]}}', [Line("/a", None, '{"b": [true, "é"]}')]),
        (b'{"a":[1]}', b'{"a":[1,2.5]}', [Line("/a", "[1]", "[1, 2.5]")]),
        (
            b'{"a":{"c":1,"b":2}}',
            b'{"a":{"c":2,"b":3}}',
            [Line("/a/b", "2", "3"), Line("/a/c", "1", "2")],
        ),
        (b"[1,2]", b'{"a":1}', [Line("", "[1, 2]", '{"a": 1}')]),
        (b"a=1&b=2", b"a=1&b=3", [Line("", "a=1&b=2", "a=1&b=3")]),
        (b"\xff", b"<p>", [Line("", "\ufffd", "<p>")]),
    ],
)
def test_bodies_are_compared_member_by_member(one: bytes, other: bytes, lines: list[Line]) -> None:
    comparison = compare(one, other)
    assert (comparison.same_bytes, comparison.body) == (False, lines)
    swapped = compare(other, one).body
    assert [(line.one, line.other) for line in swapped] == [
        (line.other, line.one) for line in comparison.body
    ]


def test_equal_bytes_have_no_differences_whatever_they_are() -> None:
    for payload in (b'{"a":1}', b"\xff", b"[" * 100_000):
        comparison = compare(payload, payload)
        assert (comparison.same_bytes, comparison.body) == (True, [])


def test_a_long_value_is_shown_around_its_first_difference() -> None:
    one, other = ('"' + "x" * 5000 + end + "y" * 5000 + '"' for end in ("A", "B"))
    (line,) = compare(f'{{"a":{one}}}'.encode(), f'{{"a":{other}}}'.encode()).body
    for text, end in ((line.one, "A"), (line.other, "B")):
        assert text is not None
        assert len(text) == MOST_CHARACTERS + 2
        assert text.startswith("…x")
        assert text.endswith("y…")
        assert text[41] == end


def test_many_differences_are_cut() -> None:
    one = b"{%b}" % b",".join(b'"%04d":1' % n for n in range(MOST_MEMBERS + 1))
    comparison = compare(one, b"{}")
    assert (len(comparison.body), comparison.more) == (MOST_MEMBERS, True)
    assert not compare(one.replace(b',"0200":1', b""), b"{}").more


@pytest.mark.parametrize("levels", [500, 5000])
def test_deep_values_are_compared_or_shown_as_a_whole(levels: int) -> None:
    (line,) = compare(b'{"a":%b1%b}' % (b"[" * levels, b"]" * levels), b'{"a":2}').body
    assert line.name in ("", "/a")
    assert line.other in ("2", '{"a":2}')


def test_metadata_that_differs_is_named() -> None:
    one = Meta("shop", {"x-attempt": "1", "content-type": "a"}, "", "a" * 32)
    other = Meta("shop", {"x-attempt": "2", "content-type": "a", "x-new": "n"}, "v=1", "a" * 32)
    comparison = compare_records(Record(Pair(1, 1), b"{}", one), Record(Pair(2, 1), b"{}", other))
    assert comparison.head == [
        Line("query", None, "v=1"),
        Line("header x-attempt", "1", "2"),
        Line("header x-new", None, "n"),
    ]
    assert comparison.equal_headers == 1


def test_several_records_are_compared_with_the_first() -> None:
    bodies = (b'{"a":1,"n":1}', b'{"a":1,"n":2}', b'{"a":1,"n":1,"x":true}')
    metas = (Meta("s", {"h": "1"}), Meta("s", {"h": "1"}), Meta("s", {"h": "2", "i": "3"}))
    records = [Record(Pair(1, 1), *parts) for parts in zip(bodies, metas, strict=True)]
    body, head = compare_all(records)
    assert [(line.name, line.values) for line in body] == [
        ("/n", ["1", "2", "1"]),
        ("/x", [None, None, "true"]),
    ]
    assert [(line.name, line.values) for line in head] == [
        ("header h", ["1", "1", "2"]),
        ("header i", [None, None, "3"]),
    ]
    assert [line.marks for line in (*body, *head)] == [
        [False, True, False],
        [False, False, True],
        [False, False, True],
        [False, False, True],
    ]
    assert compare_all(records[:1]) == ([], [])
