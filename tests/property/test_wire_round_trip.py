"""Reading returns what was written, in any chunks: items, payload bytes and meta."""

from __future__ import annotations

import json
from io import BytesIO

import ijson
from hypothesis import given
from hypothesis import strategies as st

from portable_core.payload_hash.canonical import canonicalize, is_plain
from portable_core.records import Record
from tests.support.laws.wire_streams import (
    JSON,
    Kind,
    Outcome,
    chunkings,
    kinds,
    read,
    record_lists,
)


@given(kinds, st.data())
def test_round_trip(kind: Kind, data: st.DataObject) -> None:
    items = data.draw(kind.items)
    stream = kind.encode(items)
    chunks = data.draw(chunkings(stream))
    assert read(kind.reader(), chunks) == Outcome(items, True, len(items), None, None)


@given(record_lists)
def test_plain_payloads_are_sent_as_data_and_mean_the_same_to_others(records: list[Record]) -> None:
    text = b"".join(JSON.encode_records(records))
    for record, element, again in zip(
        records, json.loads(text), ijson.items(BytesIO(text), "item"), strict=True
    ):
        payload = record.payload
        as_data = is_plain(payload) and payload == payload.strip(b" \t\r\n")
        assert ("data" in element) is as_data
        assert ("raw" in element) is not as_data
        if "data" in element:
            assert canonicalize(json.dumps(element["data"]).encode()) == canonicalize(payload)
            assert json.loads(json.dumps(again["data"], default=float)) == element["data"]
