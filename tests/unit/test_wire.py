"""The choice of an encoding, the rules of a reader, and how the encoders cut their output."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgpack
import pytest

from portable_core.errors import MalformedStream, StreamCut, UnsupportedEncoding
from portable_core.records import Meta, Pair, Record
from portable_core.wire.negotiation import (
    ENCODINGS,
    Encoding,
    choose_encoding,
    negotiate,
    read_batches,
    read_stream,
)

JSON = "application/json"
MSGPACK = "application/vnd.msgpack"

every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS.keys())

PAIRS = [Pair(1_700_000_000_000 + 10 * index, index * 7919) for index in range(10_000)]


def make_record(index: int, payload: bytes = b'{"a":1}') -> Record:
    return Record(Pair(index, index), payload, Meta("shop", {"x-id": str(index)}))


def test_the_preferred_encoding_comes_first() -> None:
    assert list(ENCODINGS) == [MSGPACK, JSON]
    assert [encoding.media_type for encoding in ENCODINGS.values()] == list(ENCODINGS)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        (" application/json ;charset", JSON),
        ("application/vnd.msgpack", MSGPACK),
        ("application/vnd.msgpack;v=1", MSGPACK),
    ],
)
def test_choose_encoding(content_type: str | None, expected: str) -> None:
    assert choose_encoding(content_type).media_type == expected


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "json", "*/*", "application/json, x", "é"],
)
def test_choose_encoding_rejects(content_type: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="application/json"):
        choose_encoding(content_type)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        (" ", JSON),
        ("*/*", JSON),
        ("*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("APPLICATION/VND.MSGPACK", MSGPACK),
        ("application/vnd.msgpack, application/json", MSGPACK),
        ("application/json, application/vnd.msgpack", MSGPACK),
        ("application/json;q=0.9, application/vnd.msgpack;q=0.8", JSON),
        ("application/vnd.msgpack, application/json;q=0.5, */*;q=0.1", MSGPACK),
        ("application/json, */*", JSON),
        ("application/vnd.msgpack;q=0.5, */*;q=0.4", MSGPACK),
        # the closer range counts for a type, whatever the weight of the wider one
        ("*/*, application/json;q=0.5", MSGPACK),
        ("*/*, application/json;q=0", MSGPACK),
        ("*/*;q=0, application/*;q=0.2", JSON),
        ("application/*;q=0, application/json", JSON),
        ("text/html, application/json ; q=0.001", JSON),
        ("application/json;version=1;Q = 1.000", JSON),
        # what clients send
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ('text/plain;a="x,application/vnd.msgpack;q=1", application/json', JSON),
        ('text/plain;a="\\",application/vnd.msgpack", application/json', JSON),
        ("application/json;q=0.1, application/json;q=0.9, application/vnd.msgpack;q=0.5", JSON),
        ("application/vnd.msgpack;q=2, application/json;q=0.1", JSON),
        (",,;,application/json", JSON),
    ],
)
def test_negotiate(accept: str | None, expected: str) -> None:
    assert negotiate(accept).media_type == expected


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/json;q=0",
        "*/*;q=0",
        "application/xml, application/*;q=0.0",
        "application/json;q=nan",
        ";q=1",
        '"',
        'x"application/json',
    ],
)
def test_negotiate_rejects(accept: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="Accept"):
        negotiate(accept)


@every_encoding
def test_an_empty_stream_is_a_mark_alone(encoding: Encoding) -> None:
    expected = b"[]" if encoding.media_type == JSON else b"\xc0"
    assert b"".join(encoding.encode_pairs([])) == expected
    assert b"".join(encoding.encode_records([])) == expected


def test_other_parsers_read_it() -> None:
    record = make_record(3)
    text = b"".join(ENCODINGS[JSON].encode_records([record, record]))
    meta = {"source": "shop", "headers": {"x-id": "3"}}
    assert json.loads(text) == [{"hash": 3, "timestamp": 3, "data": {"a": 1}, "meta": meta}] * 2
    packed = b"".join(ENCODINGS[MSGPACK].encode_records([record, record]))
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed)
    assert list(unpacker) == [[3, 3, meta, b'{"a":1}']] * 2 + [None]
    flat = [value for timestamp, hash_ in PAIRS for value in (hash_, timestamp)]
    assert json.loads(b"".join(ENCODINGS[JSON].encode_pairs(PAIRS))) == flat
    unpacker = msgpack.Unpacker()
    unpacker.feed(b"".join(ENCODINGS[MSGPACK].encode_pairs(PAIRS)))
    assert list(unpacker) == [*flat, None]


@pytest.mark.parametrize(
    "payload",
    [b'{"a":"\\ud83d"}', b'{"a":1e400}', b'{"a":9007199254740993}', b"no JSON", b"", b'{"a":1'],
)
def test_a_payload_that_not_every_reader_preserves_is_sent_as_raw(payload: bytes) -> None:
    text = b"".join(ENCODINGS[JSON].encode_records([Record(Pair(1, 2), payload)]))
    assert set(json.loads(text)[0]) == {"hash", "timestamp", "raw"}
    assert list(read_stream(ENCODINGS[JSON].read_records(), [text])) == [
        Record(Pair(1, 2), payload)
    ]


@pytest.mark.parametrize("wrong", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize(
    "member", [b'"data":{"a":"%b"}', b'"data":{"%b":1}', b'"data":{},"x":"%b"']
)
def test_json_that_is_not_utf_8(member: bytes, wrong: bytes) -> None:
    text = b'[{"hash":1,"timestamp":2,%b}]' % (member % wrong)
    with pytest.raises(MalformedStream, match="utf-8") as caught:
        list(read_stream(ENCODINGS[JSON].read_records(), [text]))
    assert caught.value.element == 0


@every_encoding
def test_pairs_come_in_chunks_of_some_50_kib(encoding: Encoding) -> None:
    chunks = list(encoding.encode_pairs(PAIRS))
    assert {len(chunk) // 1024 for chunk in chunks[:-2]} <= set(range(44, 65))
    assert len(list(encoding.encode_pairs(PAIRS, 1000))) == 11


@every_encoding
@pytest.mark.parametrize("length", [1, 7, 8, 9, 32_767, 32_768, 40_000])
def test_chunks_of_any_number_of_pairs(encoding: Encoding, length: int) -> None:
    # MessagePack writes the length of an array, which the encoder cuts off, in 1, 3 or 5 bytes.
    pairs = PAIRS[:20] if length < 10 else [Pair(index, index % 7) for index in range(41_000)]
    chunks = list(encoding.encode_pairs(pairs, length))
    assert len(chunks) == -(-len(pairs) // length) + 1
    assert list(read_stream(encoding.read_pairs(), chunks)) == pairs


@every_encoding
def test_a_record_is_not_held_back(encoding: Encoding) -> None:
    taken: list[int] = []

    def records() -> Iterator[Record]:
        for index in range(3):
            taken.append(index)
            yield make_record(index)

    chunks = encoding.encode_records(records())
    reader = encoding.read_records()
    for index in range(3):
        assert reader.feed(next(chunks)) == [make_record(index)]
        assert taken == list(range(index + 1))


@every_encoding
def test_a_large_payload_is_not_copied(encoding: Encoding) -> None:
    payload = b'{"a":"%b"}' % (b"x" * 100_000)
    record = make_record(1, payload)
    chunks = list(encoding.encode_records([record]))
    assert any(chunk is payload for chunk in chunks)
    assert list(read_stream(encoding.read_records(), chunks)) == [record]


@every_encoding
def test_items_before_a_fault_are_returned_before_it(encoding: Encoding) -> None:
    data = b"".join(encoding.encode_pairs([Pair(1, 1), Pair(5, 2), Pair(3, 3), Pair(9, 4)]))
    reader = encoding.read_pairs()
    assert reader.feed(data) == [Pair(1, 1), Pair(5, 2)]
    assert reader.count == 2
    assert not reader.whole
    for _ in range(2):
        with pytest.raises(MalformedStream) as caught:
            reader.feed(b"")
        assert caught.value.element == 2
    with pytest.raises(MalformedStream):
        reader.finish()


@every_encoding
def test_a_fault_without_items_before_it_is_raised_at_once(encoding: Encoding) -> None:
    data = b"".join(encoding.encode_pairs([Pair(5, 1), Pair(3, 2)]))
    reader = encoding.read_pairs()
    half = len(data) // 2 + 1
    assert reader.feed(data[:half]) == [Pair(5, 1)]
    with pytest.raises(MalformedStream):
        reader.feed(data[half:])


@every_encoding
def test_read_batches_raises_a_fault_before_it_reads_more(encoding: Encoding) -> None:
    data = b"".join(encoding.encode_pairs([Pair(1, 1), Pair(5, 2), Pair(3, 3)]))

    def chunks() -> Iterator[bytes]:
        yield data
        pytest.fail("it asked for more")

    batches = read_batches(encoding.read_pairs(), chunks())
    assert next(batches) == [Pair(1, 1), Pair(5, 2)]
    with pytest.raises(MalformedStream):
        next(batches)


@every_encoding
def test_read_batches_skips_chunks_that_complete_nothing(encoding: Encoding) -> None:
    data = b"".join(encoding.encode_records([make_record(1), make_record(2)]))
    chunks = [data[index : index + 1] for index in range(len(data))]
    batches = list(read_batches(encoding.read_records(), [b"", *chunks, b""]))
    assert batches == [[make_record(1)], [make_record(2)]]


@every_encoding
def test_the_end_without_a_mark_is_a_cut(encoding: Encoding) -> None:
    data = b"".join(encoding.encode_records([make_record(1), make_record(2)]))
    records = read_stream(encoding.read_records(), [data[:-1]])
    assert [next(records), next(records)] == [make_record(1), make_record(2)]
    with pytest.raises(StreamCut, match="after 2 records"):
        next(records)
