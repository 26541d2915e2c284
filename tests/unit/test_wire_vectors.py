"""Every vector of ``tests/vectors/wire``, whole, byte by byte, and with trailing data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_core.errors import MalformedStream, StreamCut, StreamTooLarge, WebhookSyncError
from portable_core.records import Meta, Pair, Record
from portable_core.wire.negotiation import ENCODINGS, Reader, read_stream

VECTORS = Path(__file__).parent.parent / "vectors" / "wire"
MEDIA_TYPES = {"json": "application/json", "msgpack": "application/vnd.msgpack"}
ERRORS = {error.__name__: error for error in (MalformedStream, StreamCut, StreamTooLarge)}

NewReader = Callable[[], Reader[Any]]


def make_record(fields: dict[str, Any]) -> Record:
    pair = Pair(fields["timestamp"], fields["hash"])
    meta = Meta(fields.get("source", ""), fields.get("headers", {}))
    return Record(pair, fields["payload"].encode(), meta)


def load() -> Iterator[Any]:
    for kind in ("pairs", "records"):
        for vector in json.loads((VECTORS / f"{kind}.json").read_bytes()):
            if kind == "pairs":
                items: list[Any] = [Pair(timestamp, hash_) for hash_, timestamp in vector[kind]]
            else:
                items = [make_record(fields) for fields in vector[kind]]
            for name in MEDIA_TYPES.keys() & vector.keys():
                encoding = ENCODINGS[MEDIA_TYPES[name]]
                reader = encoding.read_pairs if kind == "pairs" else encoding.read_records
                data = vector[name].encode() if name == "json" else bytes.fromhex(vector[name])
                label = f"{kind}-{name}-{vector['name']}"
                yield pytest.param(reader, name, data, items, vector, id=label)


VECTOR_CASES = sorted(load(), key=lambda case: str(case.id))
SOUND_CASES = [case for case in VECTOR_CASES if "error" not in case.values[4]]


def read(reader: Reader[Any], chunks: list[bytes]) -> tuple[list[Any], WebhookSyncError | None]:
    items: list[Any] = []
    try:
        for item in read_stream(reader, chunks):
            items.append(item)
    except WebhookSyncError as error:
        return items, error
    return items, None


@pytest.mark.parametrize("size", [1, 2, 3, 100_000], ids=["by-1", "by-2", "by-3", "whole"])
@pytest.mark.parametrize(("make_reader", "name", "data", "items", "vector"), VECTOR_CASES)
def test_vector(
    make_reader: NewReader, name: str, data: bytes, items: list[Any], vector: Any, size: int
) -> None:
    reader = make_reader()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    seen, error = read(reader, chunks)
    assert seen == items
    assert reader.count == len(items)
    assert reader.whole is ("error" not in vector)
    if "error" in vector:
        assert type(error) is ERRORS[vector["error"]]
        assert vector.get("says", "") in str(error)
        if isinstance(error, MalformedStream):
            assert error.element == vector["element"]
    else:
        assert error is None


@pytest.mark.parametrize("size", [1, 100_000], ids=["by-1", "whole"])
@pytest.mark.parametrize("trailing", [b"x", b"\xc0", b"\x00", b"[", b"]", b",", b"\x94", b"\xd9"])
@pytest.mark.parametrize(("make_reader", "name", "data", "items", "vector"), SOUND_CASES)
def test_vector_with_trailing_data(
    make_reader: NewReader,
    name: str,
    data: bytes,
    items: list[Any],
    vector: Any,
    trailing: bytes,
    size: int,
) -> None:
    reader = make_reader()
    data += trailing
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    seen, error = read(reader, chunks)
    assert seen == items
    assert not reader.whole
    assert type(error) is MalformedStream
    assert "continues after the closing" in str(error)


@pytest.mark.parametrize(("make_reader", "name", "data", "items", "vector"), SOUND_CASES)
def test_white_space_may_follow_json_alone(
    make_reader: NewReader, name: str, data: bytes, items: list[Any], vector: Any
) -> None:
    reader = make_reader()
    seen, error = read(reader, [data, b" \t\r\n", b"\n"])
    assert seen == items
    assert (error is None) is (name == "json")
    assert reader.whole is (name == "json")
