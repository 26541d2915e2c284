"""Named limits hold exactly, and hostile streams cost little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest

from portable_core.errors import MalformedStream, StreamTooLarge
from portable_core.records import Meta, Pair, Record
from portable_core.settings import MAX_BODY_BYTES
from portable_core.wire.negotiation import (
    DEFAULT_LIMITS,
    ENCODINGS,
    Encoding,
    Reader,
    WireLimits,
    read_stream,
)

JSON = ENCODINGS["application/json"]
MSGPACK = ENCODINGS["application/vnd.msgpack"]

MIB = 2**20
SMALL = WireLimits(element_bytes=MIB, meta_bytes=64 * 1024)
CHUNK = 16 * 1024

every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS.keys())


def measure_peak(reader: Reader[Any], chunks: Iterable[bytes]) -> tuple[int, Exception]:
    """Feed until an error is raised; return the peak of memory in bytes, and the error."""
    tracemalloc.start()
    try:
        for _ in read_stream(reader, chunks):
            pass
    except MalformedStream as error:
        return tracemalloc.get_traced_memory()[1], error
    finally:
        tracemalloc.stop()
    raise AssertionError("no error came")


def endless(beginning: bytes, unit: bytes) -> Iterator[bytes]:
    """Return ``beginning``, then ``unit`` for 64 MiB: beyond the limit of each of these readers."""
    block = unit * (CHUNK // len(unit))
    return chain([beginning], repeat(block, 64 * MIB // CHUNK))


def test_the_default_admits_every_record_of_a_node() -> None:
    # 25 MiB that cannot go as plain JSON: base64 makes them 34.
    payload = b"\xff" * (26_214_400)
    for encoding in ENCODINGS.values():
        record = Record(Pair(1, 2), payload, Meta("s", {"a": "b" * 800_000}))
        assert next(read_stream(encoding.read_records(), encoding.encode_records([record]))) == (
            record
        )
    assert DEFAULT_LIMITS.element_bytes == 64 * MIB


@every_encoding
@pytest.mark.parametrize("size", [1, 1000, 10**6], ids=["by-1", "by-1000", "whole"])
def test_element_bytes(encoding: Encoding, size: int) -> None:
    payload = b'{"a":"%b"}' % (b"x" * 5000)
    record = Record(Pair(1, 2), payload)
    data = b"".join(encoding.encode_records([Record(Pair(0, 0), b"{}"), record]))
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    # JSON counts the record's text, MessagePack its payload
    exact = len(payload) + (len(b'{"hash":2,"timestamp":1,"data":}') if encoding is JSON else 0)
    assert len(list(read_stream(encoding.read_records(WireLimits(exact)), chunks))) == 2
    records = read_stream(encoding.read_records(WireLimits(exact - 1)), chunks)
    assert next(records).payload == b"{}"
    with pytest.raises(StreamTooLarge) as caught:
        next(records)
    assert caught.value.element == 1
    assert str(exact - 1) in str(caught.value)


@every_encoding
@pytest.mark.parametrize("size", [1, 1000, 10**6], ids=["by-1", "by-1000", "whole"])
def test_meta_bytes(encoding: Encoding, size: int) -> None:
    record = Record(Pair(1, 2), b"{}", Meta("s", {"a": "x" * 5000}))
    data = b"".join(encoding.encode_records([Record(Pair(0, 0), b"{}"), record]))
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    rest = (
        len(b'{"source":"s","headers":{"a":""}}')
        if encoding is JSON
        else len(b"\x94\x02\x01\x82\xa6source\xa1s\xa7headers\x81\xa1a\xda\x13\x88\xc4\x02")
    )
    exact = 5000 + rest
    assert len(list(read_stream(encoding.read_records(WireLimits(MIB, exact)), chunks))) == 2
    records = read_stream(encoding.read_records(WireLimits(MIB, exact - 1)), chunks)
    assert next(records).payload == b"{}"
    with pytest.raises(StreamTooLarge) as caught:
        next(records)
    assert caught.value.element == 1


ENDLESS_RECORDS = {
    "json-string": (JSON, b'[{"hash":1,"timestamp":2,"data":{"a":"', b"x"),
    "json-arrays": (JSON, b'[{"hash":1,"timestamp":2,"data":', b"["),
    "json-empty-arrays": (JSON, b'[{"hash":1,"timestamp":2,"data":[', b"[],"),
    "json-objects": (JSON, b'[{"hash":1,"timestamp":2,"data":', b'{"a":'),
    "json-braces-in-a-string": (JSON, b'[{"hash":1,"timestamp":2,"data":{"a":"', b"}{"),
    "json-strings": (JSON, b'[{"hash":1,"timestamp":2,"data":["",', b'"",'),
    "json-backslashes": (JSON, b'[{"hash":1,"timestamp":2,"data":{"a":"', b"\\"),
    "json-escaped-quotes": (JSON, b'[{"hash":1,"timestamp":2,"data":{"a":"', b'\\"'),
    "json-meta": (JSON, b'[{"hash":1,"timestamp":2,"meta":{"a":[', b"[],"),
    "json-unknown-member": (JSON, b'[{"x":[', b"{},"),
    "json-space": (JSON, b"[{", b" "),
    "msgpack-binary": (MSGPACK, b"\x94\x01\x02\x80\xc6\xff\xff\xff\xff", b"x"),
    "msgpack-text": (MSGPACK, b"\x94\x01\x02\xdb\xff\xff\xff\xff", b"x"),
    "msgpack-arrays": (MSGPACK, b"\x94\x01\x02", b"\x91"),
    "msgpack-large-arrays": (MSGPACK, b"\x94\x01\x02", b"\xdc\x04\x00"),
    "msgpack-empty-maps": (MSGPACK, b"\x94\x01\x02\xdc\x04\x00", b"\xdc\x04\x00" + b"\x80" * 1024),
    "msgpack-maps": (MSGPACK, b"\x94\x01\x02", b"\x81\xa1a"),
    "msgpack-map-of-texts": (MSGPACK, b"\x94\x01\x02\xde\xff\xff", b"\xa2ab\xa0"),
    "msgpack-extension": (MSGPACK, b"\x94\x01\x02\xc9\xff\xff\xff\xff\x01", b"x"),
    "msgpack-endless-hash": (MSGPACK, b"\x94\xdc\x04\x00", b"\x90"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "beginning", "unit"), ENDLESS_RECORDS.values(), ids=ENDLESS_RECORDS.keys()
)
def test_an_endless_record(encoding: Encoding, beginning: bytes, unit: bytes) -> None:
    peak, error = measure_peak(encoding.read_records(SMALL), endless(beginning, unit))
    assert isinstance(error, MalformedStream)
    assert error.element == 0
    assert peak < 12 * MIB


ENDLESS_PAIRS = {
    "json-digits": (JSON, b"[", b"9"),
    "json-string": (JSON, b'["', b"x"),
    "json-arrays": (JSON, b"[", b"["),
    "json-empty-arrays": (JSON, b"[", b"[],"),
    "json-objects": (JSON, b"[", b'{"a":'),
    "json-commas": (JSON, b"[", b","),
    "msgpack-binary": (MSGPACK, b"\xc6\xff\xff\xff\xff", b"x"),
    "msgpack-text": (MSGPACK, b"\xdb\xff\xff\xff\xff", b"x"),
    "msgpack-arrays": (MSGPACK, b"", b"\x91"),
    "msgpack-large-arrays": (MSGPACK, b"", b"\xdd\xff\xff\xff\xff"),
    "msgpack-extension": (MSGPACK, b"\xc9\xff\xff\xff\xff\x01", b"x"),
}


@pytest.mark.parametrize(
    ("encoding", "beginning", "unit"), ENDLESS_PAIRS.values(), ids=ENDLESS_PAIRS.keys()
)
def test_an_endless_pair(encoding: Encoding, beginning: bytes, unit: bytes) -> None:
    peak, error = measure_peak(encoding.read_pairs(), endless(beginning, unit))
    assert isinstance(error, MalformedStream)
    assert error.element == 0
    assert peak < 8 * MIB


def test_endless_space_needs_no_memory() -> None:
    for reader in (JSON.read_pairs(), JSON.read_records()):
        chunks = chain([b"["], repeat(b" " * CHUNK, 4 * MIB // CHUNK), [b"x,"])
        peak, error = measure_peak(reader, chunks)
        assert type(error) is MalformedStream
        assert peak < MIB
    reader = JSON.read_pairs()
    spaced = chain([b"[1,2"], repeat(b" " * CHUNK, 4 * MIB // CHUNK), [b",3,4]"])
    assert list(read_stream(reader, spaced)) == [Pair(2, 1), Pair(4, 3)]


@pytest.mark.slow
@every_encoding
def test_a_stream_of_any_length_needs_constant_memory(encoding: Encoding) -> None:
    record = Record(Pair(1, 2), b'{"a":"%b"}' % (b"x" * 1000), Meta("s", {"a": "b"}))

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in read_stream(
            encoding.read_records(SMALL), encoding.encode_records(repeat(record, count))
        ):
            pass
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # fills caches
    assert peak(5000) < peak(50) + 256 * 1024


def test_deep_data_is_read() -> None:
    data = b'{"a":%b1%b}' % (b"[" * 500, b"]" * 500)
    text = b'[{"hash":1,"timestamp":2,"data":%b}]' % data
    assert next(read_stream(JSON.read_records(), [text])).payload == data


def test_data_deeper_than_the_stack_is_rejected() -> None:
    data = b"[" * 1_000_000 + b"]" * 1_000_000
    text = b'[{"hash":1,"timestamp":2,"data":%b}]' % data
    with pytest.raises(StreamTooLarge) as caught:
        list(read_stream(JSON.read_records(), [text]))
    assert caught.value.element == 0


def test_deep_meta_is_rejected() -> None:
    text = b'[{"hash":1,"timestamp":2,"data":{},"meta":{"x":%b}}]' % (b"[" * 5000 + b"]" * 5000)
    with pytest.raises(MalformedStream):
        list(read_stream(JSON.read_records(), [text]))
    packed = b"\x94\x01\x02\x81\xa1x" + b"\x91" * 5000
    with pytest.raises(MalformedStream):
        list(read_stream(MSGPACK.read_records(), [packed]))


@every_encoding
def test_the_largest_webhook_of_a_node_fits(encoding: Encoding) -> None:
    # One that goes as base64 in JSON, with as much meta as there may be.
    payload = b'{"1":1e999,"2":"%b"}' % (b"x" * (MAX_BODY_BYTES - 18))
    assert len(payload) == MAX_BODY_BYTES
    meta = Meta("source", {"x": "y" * (DEFAULT_LIMITS.meta_bytes - 200)})
    record = Record(Pair(2**53 - 1, 2**53 - 1), payload, meta)
    (back,) = read_stream(encoding.read_records(), encoding.encode_records([record]))
    assert back == record
