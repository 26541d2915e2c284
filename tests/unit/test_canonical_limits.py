"""The limits of a payload: its depth, its number of values, the memory and the stack it needs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from portable_core import MalformedPayload, canonicalize, hash_payload
from portable_core.errors import PayloadTooComplex
from portable_core.payload_hash.canonical import LARGE, MAX_DEPTH, MAX_VALUES, is_plain
from portable_core.payload_hash.exact import MOST_LEVELS, canonicalize_exactly


def nest(levels: int, inner: bytes = b"1") -> bytes:
    """Return a payload of so many levels, arrays and objects in turn."""
    opening = (b'{"a":', b"[")
    closing = (b"}", b"]")
    kinds = [level % 2 for level in range(levels)]
    return (
        b"".join(opening[kind] for kind in kinds)
        + inner
        + b"".join(closing[kind] for kind in reversed(kinds))
    )


@pytest.mark.parametrize("levels", [1, 253, 254, 255, 256, 499, MAX_DEPTH])
@pytest.mark.parametrize("inner", [b"1", b"1e400", b"18446744073709551616", b'"\\ud800"'])
def test_depth_up_to_the_bound_is_accepted(levels: int, inner: bytes) -> None:
    payload = nest(levels, inner)
    assert canonicalize(payload) == payload.replace(b"1e400", b"1e+400")


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 1_000, 1_025, 5_001, 100_000, 1_000_000])
@pytest.mark.parametrize("closed", [True, False])
def test_greater_depth_is_rejected(levels: int, closed: bool) -> None:
    payload = nest(levels) if closed else nest(levels)[: levels * 3]
    told = PayloadTooComplex if closed or levels > MOST_LEVELS else MalformedPayload
    with pytest.raises(told):
        hash_payload(payload)
    assert not is_plain(payload)


@pytest.mark.parametrize("levels", [300, MAX_DEPTH + 1, 900, 1_100, MOST_LEVELS - 3])
@pytest.mark.parametrize("rest", [b"", b',"z":18446744073709551616'])
def test_members_that_a_repeated_key_drops_may_be_deeper(levels: int, rest: bytes) -> None:
    inner = b"[" * levels + b"]" * levels
    payload = b'{"a":{"b":' + inner + b',"b":1}' + rest + b"}"
    canonical = b'{"a":{"b":1}' + rest + b"}"
    assert canonicalize(payload) == canonicalize_exactly(payload) == canonical
    whole = b'{"a":' + payload + b',"a":' + inner + b',"a":2}'
    assert canonicalize(whole) == canonicalize_exactly(whole) == b'{"a":2}'
    if levels > MAX_DEPTH:
        for last in (b'{"b":1,"b":%b}', b'{"b":%b,"c":1,"b":2,"d":%b}', b"[%b]"):
            kept = b'{"a":' + last.replace(b"%b", inner) + b"}"
            with pytest.raises(PayloadTooComplex, match=f"deeper than {MAX_DEPTH} levels"):
                canonicalize(kept)


def test_no_level_is_beyond_the_last_one() -> None:
    inner = b"[" * MOST_LEVELS + b"]" * MOST_LEVELS
    with pytest.raises(PayloadTooComplex):
        canonicalize(b'{"a":' + inner + b',"a":1}')


def test_objects_within_objects_are_put_in_order_by_one_copy() -> None:
    text = b'"' + b"x" * 20_000 + b'"'
    levels = MAX_DEPTH - 2
    payload = b'{"b":' * levels + text + b',"a":18446744073709551616}' * levels
    canonical = b'{"a":18446744073709551616,"b":' * levels + text + b"}" * levels
    assert canonicalize(payload) == canonical


def test_depth_is_independent_of_the_callers_stack() -> None:
    payload = nest(MAX_DEPTH)

    def call_deep(levels: int) -> bytes:
        return call_deep(levels - 1) if levels else canonicalize(payload)

    room = sys.getrecursionlimit() - 200
    assert call_deep(room - 100) == payload


def run(code: str, *, megabytes: int | None = None) -> str:
    """The last line that a new Python prints. It may not use more than so much new memory."""
    limit = (
        f"""
import resource
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {megabytes} * 2**20,) * 2)
"""
        if megabytes
        else ""
    )
    prelude = (
        "from portable_core.payload_hash.canonical import *\nfrom portable_core.errors import *\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", prelude + limit + code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_no_depth_crashes_the_process_whatever_the_recursion_limit(opening: str) -> None:
    code = f"""
import sys, threading
sys.setrecursionlimit(10**8)
def attack():
    try:
        hash_payload(b'{{"a":' + {opening!r}.encode() * {1_000_000 // len(opening)})
    except PayloadTooComplex as error:
        print(error)
thread = threading.Thread(target=attack)  # its stack is smaller than the main one's may be
thread.start()
thread.join()
"""
    assert run(code).startswith(f"nested deeper than {MAX_DEPTH} levels")


def test_as_many_values_as_allowed_are_accepted() -> None:
    payload = b'{"a":[' + b"1," * (MAX_VALUES - 2) + b"1]}"
    assert sum(map(payload.count, (b",", b"[", b"{"))) == MAX_VALUES
    assert canonicalize(payload) == payload


@pytest.mark.slow
@pytest.mark.parametrize("item", [b"1", b"[]", b"{}", b'""', b'{"a":[]}', b'"\\","'])
def test_one_value_more_is_rejected_before_parsing(item: bytes) -> None:
    payload = b'{"a":[' + (item + b",") * (MAX_VALUES - 1) + b"1]}"
    with pytest.raises(PayloadTooComplex, match=f"more than {MAX_VALUES} values"):
        canonicalize(payload)
    assert not is_plain(payload)


@pytest.mark.slow
@pytest.mark.parametrize("values", [MAX_VALUES - 1, MAX_VALUES, MAX_VALUES + 1])
@pytest.mark.parametrize("text", [b"", b",[{", b"\\u002c"])
def test_the_bound_is_the_same_whatever_strings_hold(values: int, text: bytes) -> None:
    payload = b'{"a":["' + text + b'"' + b",1" * (values - 2) + b"]}"
    if values <= MAX_VALUES:
        assert canonicalize(payload) == payload.replace(b"\\u002c", b",")
    else:
        with pytest.raises(PayloadTooComplex, match=f"more than {MAX_VALUES} values"):
            canonicalize(payload)


def test_separators_in_strings_are_not_values() -> None:
    text = b'1,2,[{\\"\\\\,' * (MAX_VALUES // 3)
    payload = b'{"csv":"' + text + b'","b":1}'
    assert canonicalize(payload) == b'{"b":1,"csv":"' + text + b'"}'
    with pytest.raises(MalformedPayload, match="ends too early"):
        canonicalize(payload[:-20])


def test_an_explosive_payload_is_rejected_within_its_own_memory() -> None:
    code = """
try:
    hash_payload(b'{"a":[' + b"[]," * (8 * 2**20) + b"[]]}")
except PayloadTooComplex as error:
    print(error)
"""
    assert run(code, megabytes=80) == f"more than {MAX_VALUES} values"


@pytest.mark.parametrize(
    ("number", "canonical"),
    [
        (b"9" * 1_000_000, b"9" * 1_000_000),
        (b"1e" + b"9" * 1_000_000, b"1e+" + b"9" * 1_000_000),
        (b"10e-" + b"9" * 1_000_000, b"1e-" + b"9" * 999_999 + b"8"),
        (b"0." + b"0" * 1_000_000 + b"1e1000001", b"1.0"),
        (b"1" + b"0" * 1_000_000 + b".0", b"1e+1000000"),
        (b"-0." + b"3" * 1_000_000, b"-0." + b"3" * 1_000_000),
    ],
    ids=["integer", "exponent", "negative exponent", "small", "round", "long"],
)
def test_numbers_of_a_million_digits(number: bytes, canonical: bytes) -> None:
    payload = b'{"b":' + number + b',"a":1}'
    assert canonicalize(payload) == b'{"a":1,"b":' + canonical + b"}"
    assert canonicalize_exactly(payload) == b'{"a":1,"b":' + canonical + b"}"


@pytest.mark.parametrize("work", [canonicalize, hash_payload, is_plain])
def test_large_payloads_are_parsed_one_at_a_time(
    work: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    most: list[int] = []
    original = sys.modules["portable_core.payload_hash.canonical"].__dict__["_check_values"]

    def check(payload: bytes) -> None:
        inside.append(1)
        most.append(len(inside))
        original(payload)
        inside.pop()

    monkeypatch.setattr("portable_core.payload_hash.canonical._check_values", check)
    payload = b'{"a":"' + b"," * (2 * LARGE) + b'"}'
    threads = [threading.Thread(target=work, args=(payload,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_a_rejected_large_payload_does_not_block_the_next() -> None:
    bad = b'{"a":"' + b"x" * LARGE
    with pytest.raises(MalformedPayload):
        hash_payload(bad)
    assert hash_payload(bad + b'"}') == hash_payload(b" " + bad + b'"}')
