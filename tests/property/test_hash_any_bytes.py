"""Any bytes have a hash or are malformed, and an oracle agrees which."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from portable_core import MalformedPayload, hash_payload
from portable_core.payload_hash.canonical import MAX_DEPTH
from tests.support.laws.payloads import count_levels, payloads, randoms, read, spell

tokens = [b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"0", b"1", b"-"]
tokens += [b".", b"e", b"null", b"NaN", b"Infinity", b" ", b"\n", b"\x00", b"\xff", b"\xed\xa0\x80"]
tokens += [b"\xef\xbb\xbf", b"\xc0\xaf", b"\xf4\x90\x80\x80", b'"":', b"01", b"1.", b"+1", b"\x1f"]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Return a payload with a few bytes or tokens inserted, removed or overwritten."""
    random = draw(randoms())
    text = bytearray(spell(draw(payloads()), random))
    for _ in range(random.randrange(3)):
        start = random.randrange(len(text) + 1)
        near = text.find(random.choice([b'"', b"0", b"1", b"e", b"."]), start)
        if near >= 0 and random.random() < 0.5:  # within strings and numbers
            start = near + random.randrange(2)
        end = min(len(text), start + random.choice([0, 0, 1, 2]))
        text[start:end] = random.choice([random.choice(tokens), bytes([random.randrange(256)])])
    return bytes(text)


def accepts(payload: bytes) -> bool:
    """Return whether a payload has a hash; if not, the offset of the fault lies within it."""
    try:
        hash_payload(payload)
    except MalformedPayload as error:
        fault = error
    else:
        return True
    assert fault.offset is not None
    assert 0 <= fault.offset <= len(payload)
    return False


def oracle_accepts(payload: bytes) -> bool:
    """Return whether a payload is an object within the limit of levels.

    A repeated key whose spelling is broken does not overwrite the earlier one, which may be deeper.
    """
    try:
        return count_levels(read(payload)) <= MAX_DEPTH
    except ValueError:
        return False


@given(broken() | st.lists(st.sampled_from(tokens)).map(b"".join) | st.binary())
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1}\x00')
@example(b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}')
@example(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
@example(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))
@example(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b',"b":1}')
@example(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b',"a":1}')
def test_bytes_hash_or_are_malformed(payload: bytes) -> None:
    assert accepts(payload) is oracle_accepts(payload)
