"""Streams to read: any pairs and records, their bytes, damaged bytes, and any chunking of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import strategies as st

from portable_core.errors import WebhookSyncError
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.wire.negotiation import ENCODINGS, Encoding, Reader, WireLimits, read_stream

JSON = ENCODINGS["application/json"]
MSGPACK = ENCODINGS["application/vnd.msgpack"]

encodings = st.sampled_from(list(ENCODINGS.values()))

integers = st.integers(0, MAX_INTEGER) | st.integers(0, 300)

pair_lists = st.lists(st.builds(Pair, integers, integers), max_size=20).map(
    lambda pairs: sorted(pairs, key=lambda pair: pair.timestamp)
)

#: Letters of every width, and what is special to a parser.
letters = st.sampled_from('ab0/"\\{}[],:\n\0\x1f\x7f\x80é߿ࠀ€\ufeff\uffff😀\U0010ffff')

texts = st.text(letters, max_size=8) | st.sampled_from(
    ["}", "{", '"', "\\", '\\"', "]", "\\u", "é€😀"]
)

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
).map(lambda value: 0 if value in (float("inf"), float("-inf")) else value)

#: Objects in one of json's spellings, with what stops a payload from being plain now and then.
json_payloads = st.builds(
    lambda value, ascii_only, separators, extra, before, after: (
        before
        + json.dumps(value, ensure_ascii=ascii_only, separators=separators)
        .encode()
        .replace(b"}", extra + b"}" if extra and value else b"}", 1)
        + after
    ),
    st.dictionaries(texts, values.filter(lambda v: "inf" not in json.dumps(v).lower()), max_size=4),
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
    st.sampled_from([b"", b"", b"", b',"s":"\\ud800"', b',"n":1e999', b',"n":-0', b',"n":1.0']),
    st.sampled_from([b"", b"", b"", b" ", b"\r\n\t"]),
    st.sampled_from([b"", b"", b"", b"\n", b" \t\r\n"]),
)

payloads = json_payloads | st.binary(max_size=40)

metas = st.builds(Meta, texts, st.dictionaries(texts, texts, max_size=3))

records = st.builds(Record, st.builds(Pair, integers, integers), payloads, metas)

record_lists = st.lists(records, max_size=5)


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` as a list of chunks: whole, byte by byte, or cut anywhere, with empty ones."""
    how = draw(st.sampled_from(["whole", "bytes", "any"]))
    if how == "whole":
        return [data]
    if how == "bytes":
        return split(data, range(len(data)))
    return split(data, draw(st.lists(st.integers(0, len(data)), max_size=12)))


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


#: Pieces of which damaged streams are made: what means something to one of the parsers.
_PIECES = [
    *(bytes([byte]) for byte in b'[]{},:"\\0123456789-+.eEtfn \t\n\r'),
    *(bytes([byte]) for byte in range(0x7F, 0x100)),
    *(
        b"true",
        b"false",
        b"null",
        b"NaN",
        b'"hash"',
        b'"timestamp"',
        b'"data"',
        b'"raw"',
        b'"meta"',
    ),
    *(b"9007199254740991", b"9007199254740992", b"\\u0041", b"\\ud83d\\ude00", b"\\ud83d"),
    *(b'{"hash":1,"timestamp":2,"data":{}}', b'{"hash":1,"timestamp":2,"raw":"e30="}'),
    *(
        b"\x94\x01\x02\x80\xc4\x02{}",
        b"\x81\xa6source\xa1s",
        b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff",
    ),
    *(b"9" * 5000, b"\xef\xbb\xbf", b"\xed\xa0\x80"),
]

garbage = st.lists(st.sampled_from(_PIECES), max_size=30).map(b"".join) | st.binary(max_size=60)


@st.composite
def damaged(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """A stream of which a part was replaced, or garbage from the start."""
    if draw(st.integers(0, 4)) == 0:
        return draw(garbage)
    data = draw(streams)
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 6)))
        data = data[:start] + draw(st.sampled_from(_PIECES) | st.just(b"")) + data[end:]
    return data


class Kind(NamedTuple):
    """One of the four streams: an encoding, and pairs or records."""

    encoding: Encoding
    noun: str

    def reader(self, limits: WireLimits | None = None) -> Reader[Any]:
        if self.noun == "pairs":
            return self.encoding.read_pairs()
        return self.encoding.read_records(limits) if limits else self.encoding.read_records()

    def encode(self, items: list[Any]) -> bytes:
        if self.noun == "pairs":
            return b"".join(self.encoding.encode_pairs(items, 3))
        return b"".join(self.encoding.encode_records(items))

    @property
    def items(self) -> st.SearchStrategy[list[Any]]:
        return pair_lists if self.noun == "pairs" else record_lists

    @property
    def streams(self) -> st.SearchStrategy[bytes]:
        return self.items.map(self.encode)


KINDS = [Kind(encoding, noun) for encoding in ENCODINGS.values() for noun in ("pairs", "records")]
kinds = st.sampled_from(KINDS)


class Outcome(NamedTuple):
    """All that a reader tells of a stream."""

    items: list[Any]
    whole: bool
    received: int
    error: type[WebhookSyncError] | None
    element: int | None


def read(reader: Reader[Any], chunks: Iterable[bytes]) -> Outcome:
    """Read to the end or the first error. Any exception outside the root comes out."""
    items: list[Any] = []
    error: WebhookSyncError | None = None
    try:
        for item in read_stream(reader, chunks):
            items.append(item)
    except WebhookSyncError as caught:
        error = caught
    kind = None if error is None else type(error)
    return Outcome(items, reader.whole, reader.count, kind, getattr(error, "element", None))
