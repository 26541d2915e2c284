"""Every payload that the hash accepts comes back byte for byte, with or without ``data``."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PART_BYTES,
    PARTS,
    RECORDS,
    SEGMENTS,
    delete_document,
    format_id,
    write_document,
)
from portable_core.adapters.firestore.operations import (
    DOCUMENT_LIMIT,
    REQUEST_LIMIT,
    VALUE_LIMIT,
    measure_document,
)
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.segments import format_value_part, read_segment_entries
from portable_core.errors import RecordRefused, StoreDamaged, StoreError
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Quarantined, SlaveState
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery
from portable_core.zstd import compress
from tests.support.firestore_emulator import PROJECT, name_database, opened_database, use_emulator

MAX_BODY_BYTES = 26_214_400
SAMPLES: dict[str, bytes] = {
    "5 MiB": json.dumps({"text": random.Random(1).randbytes(2_621_440).hex()}).encode(),
    "nested arrays": b'{"matrix": [[1, 2], [3, [4, []]]]}',
    "__x__": b'{"__x__": {"__name__": 1}}',
    "30 deep": b'{"a":' * 30 + b"[]" + b"}" * 30,
    "60 digits": b'{"n": %s}' % (b"123456" * 10),
    "spelling": b'{ "b":1.50,\n"a":"\\u0041\\/", "a":2 }',
    "lone surrogate": b'{"a": "\\ud83d"}',
    "1e400": b'{"a": 1e400}',
    "200,000 ones": b'{"a":[%s]}' % b",".join([b"1"] * 200_000),
    "100,000 maps": b'{"a":[%s]}' % b",".join([b"{}"] * 100_000),
    "exponent": b'{"a":0e99999999999999999999,"b":-1.5e-10000000000000000000000000}',
    "plain": b'{"action": "opened", "issue": {"labels": [{"name": "bug"}], "number": 7}}',
    "reserved by nobody": b'{"parts": 3, "payload": "x", "data": {}}',
}

#: Bytes that cannot be compressed.
NOISE = random.Random(3).randbytes(3_000_000)


@pytest.fixture(params=[False, True], ids=["bytes", "data"])
def store(request: pytest.FixtureRequest) -> Iterator[FirestoreStore]:
    use_emulator()
    store = FirestoreStore(
        PROJECT, name_database(), commit_timeout_ms=10_000, native_data=request.param
    )
    store.open("crc32c")
    yield store
    assert store.operations.largest_document <= DOCUMENT_LIMIT
    assert store.operations.largest_request <= REQUEST_LIMIT
    store.close()


@pytest.fixture
def database() -> Iterator[Database]:
    with opened_database() as database:
        yield database


def open_store(
    database: Database, *, native_data: bool = False, ttl_ms: int = 5000
) -> FirestoreStore:
    name = database.path.rpartition("/")[2]
    store = FirestoreStore(
        PROJECT, name, commit_timeout_ms=10_000, native_data=native_data, ttl_ms=ttl_ms
    )
    store.open("crc32c")
    return store


def look_up(database: Database, collection: str, id_: str) -> Any:
    """A document's fields, None where there is no document."""
    name = database.name(collection, id_)
    document = database.get([name])[0].get(name)
    return None if document is None else document.fields


def test_every_payload_comes_back_byte_for_byte(store: FirestoreStore) -> None:
    records = [
        Record(Pair(1000 + i, hash_payload(payload)), payload, Meta("s", {"a": "b"}))
        for i, payload in enumerate(SAMPLES.values())
    ]
    store.append(records, 9.0)
    assert list(store.records(0, MAX_INTEGER)) == records
    assert list(store.fetch([record.pair for record in records])) == records


def test_the_largest_body_and_the_largest_meta(store: FirestoreStore) -> None:
    records = [
        Record(Pair(1000, 1), random.Random(2).randbytes(MAX_BODY_BYTES)),
        Record(Pair(1000, 2), b"{}", Meta("s", {"h": "v" * 1_100_000}), Recovery("a", 1)),
        *(Record(Pair(1000, hash_), NOISE[:899_000]) for hash_ in range(3, 18)),
        *(Record(Pair(1000, 20 + n), NOISE[: PART_BYTES - 10 + n]) for n in range(12)),
    ]
    store.append(records)
    assert list(store.records(0, MAX_INTEGER)) == records


def test_a_map_or_the_reason_why_not(database: Database) -> None:
    reasons = {
        "5 MiB": "too large",
        "nested arrays": "an array lies directly in an array",
        "__x__": "'__x__' is reserved",
        "30 deep": "nested more than 20 deep",
        "60 digits": "more than 64 bits",
        "200,000 ones": "too large as a map",
        "100,000 maps": "too large as a map",
        "exponent": "too large an exponent",
    }
    samples = {**SAMPLES, "900 kB": b'{"text":"%s"}' % (b"x" * 900_000)}
    store = open_store(database, native_data=True)
    pairs = {name: Pair(1000, hash_payload(payload)) for name, payload in samples.items()}
    store.append([Record(pairs[name], payload) for name, payload in samples.items()])
    for name, reason in reasons.items():
        fields = look_up(database, RECORDS, format_id(pairs[name]))
        assert reason in fields["data_missing"].string_value
        assert "data" not in fields
    fields = look_up(database, RECORDS, format_id(pairs["plain"]))
    issue = fields["data"].map_value.fields["issue"].map_value.fields
    assert issue["number"].integer_value == 7
    assert "data_missing" not in fields
    large = look_up(database, RECORDS, format_id(pairs["900 kB"]))
    assert len(large["data"].map_value.fields["text"].string_value) == 900_000
    store.close()


def test_a_copy_has_the_metadata_for_queries(database: Database) -> None:
    store = open_store(database, native_data=True)
    headers = {"x-topic": "orders", "__x__": "reserved", "": "empty", "x-long": "v" * 200}
    meta = Meta("shop", headers, "a=1", "k" * 32)
    store.append(
        [
            Record(Pair(1500, 7), b'{"a":1}', meta, Recovery("slave-1", 9)),
            Record(Pair(1501, 8), b'{"a":1}', Meta("s", {"x-long": "v" * 200_000})),
        ]
    )
    fields = look_up(database, RECORDS, format_id(Pair(1500, 7)))
    kept = fields["headers"].map_value.fields
    assert {name: kept[name].string_value for name in kept} == {
        "x-topic": "orders",
        "x-long": "v" * 200,
    }
    texts = {name: fields[name].string_value for name in ("source", "query", "key")}
    assert texts == {"source": "shop", "query": "a=1", "key": "k" * 32}
    assert fields["recovered_from"].string_value == "slave-1"
    numbers = [fields[name].integer_value for name in ("hash", "timestamp", "recovered_at")]
    assert numbers == [7, 1500, 9]
    received = fields["received"].timestamp_value
    assert (received.seconds, received.nanos) == (1, 500_000_000)
    assert set(look_up(database, RECORDS, format_id(Pair(1501, 8)))) == {
        *("hash", "timestamp", "received", "data", "expires")
    }
    store.close()


def test_a_rejected_map_costs_no_webhook(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the indexes' exemptions, Firestore takes no more than 40,000 entries a document."""
    send = FirestoreClient.commit

    def refuse_many_values(client: FirestoreClient, request: Any, **options: Any) -> Any:
        for write in types.CommitRequest.pb(request).writes:
            fields = write.update.fields
            if "data" in fields and "tags" in fields["data"].map_value.fields:
                raise InvalidArgument("too many index entries for entity")  # type: ignore[no-untyped-call]  # theirs
        return send(client, request, **options)

    store = open_store(database, native_data=True)
    monkeypatch.setattr(FirestoreClient, "commit", refuse_many_values)
    many = b'{"tags":[%s]}' % b",".join([b"1"] * 30_000)
    records = [Record(Pair(1000, 1), b'{"a":1}'), Record(Pair(1000, 2), many)]
    store.append(records, 9.0)
    assert list(store.fetch([record.pair for record in records])) == records
    for record in records:
        fields = look_up(database, RECORDS, format_id(record.pair))
        assert fields["data_missing"].string_value == "Firestore refused the map"
        assert "data" not in fields
    store.append([Record(Pair(2000, 3), b'{"a":1}')], 9.0)
    assert "data" in look_up(database, RECORDS, format_id(Pair(2000, 3)))
    with pytest.raises(RecordRefused):
        store.append([Record(Pair(-1, 3), b"{}")])
    store.close()


def test_without_the_setting_there_is_no_copy(database: Database) -> None:
    store = open_store(database)
    store.append([Record(Pair(1000, 7), SAMPLES["plain"])])
    assert look_up(database, RECORDS, format_id(Pair(1000, 7))) is None
    [segment] = database.scan(RangeQuery(SEGMENTS, "key"), 10)
    assert set(segment.fields) == {"key", "pairs", "records", "bytes", "place", "expires"}
    assert segment.fields["expires"].timestamp_value.seconds == 6
    store.close()


def name_part(database: Database, pair: Pair, number: int) -> str:
    """The name of a part of a record, whose segment has no other record."""
    for segment in database.scan(RangeQuery(SEGMENTS, "key"), 10):
        if [entry.pair for entry in read_segment_entries(segment)] == [pair]:
            id_ = format_value_part(segment.name.rpartition("/")[2], 0, number)
            return database.name(PARTS, id_)
    raise AssertionError(pair)


def test_retention_leaves_no_part_behind(database: Database) -> None:
    store = open_store(database)
    pair = Pair(1000, 7)
    store.append([Record(pair, NOISE), Record(Pair(20_001, 8), b"{}")])
    names = [name_part(database, pair, number) for number in range(4)]
    assert len(database.get(names)[0]) == 4
    assert store.prune(100_000) == 2
    assert database.get(names)[0] == {}
    assert store.first() is None
    store.close()


def test_a_lost_part_is_damage_and_not_a_shorter_payload(database: Database) -> None:
    """Once it has expired, a TTL policy removes its documents in any order."""
    store = open_store(database, ttl_ms=60_000)
    pair, expired = Pair(int(time.time() * 1000), 7), Pair(1000, 7)
    store.append([Record(pair, NOISE), Record(expired, NOISE)])
    lost = [name_part(database, pair, 2), name_part(database, expired, 0)]
    database.commit([delete_document(name) for name in lost])
    with pytest.raises(StoreDamaged, match=r"a part of .* is missing"):
        list(store.fetch([pair]))
    assert list(store.fetch([expired])) == []
    store.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"records": b""},
        {"records": b"{}"},
        {"records": compress(msgpack.packb([b"x"]))},
        {"records": compress(msgpack.packb([b"x", 1]))},
        {"records": compress(msgpack.packb([b"x", b"y"]))},
        {"pairs": b"x"},
        {"pairs": b""},
    ],
)
def test_a_damaged_segment_is_damage(database: Database, fields: dict[str, bytes]) -> None:
    store = open_store(database)
    store.append([Record(Pair(1000, 7), b"{}"), Record(Pair(1001, 8), b"{}")])
    [segment] = database.scan(RangeQuery(SEGMENTS, "key"), 10)
    write = write_document(segment.name, fields)
    write.update_mask.field_paths.extend(fields)
    database.commit([write])
    store.close()
    store.open("crc32c")
    with pytest.raises(StoreDamaged, match="damaged"):
        list(store.records(0, MAX_INTEGER))
    store.close()


def test_a_record_that_no_document_can_hold_is_rejected_alone(store: FirestoreStore) -> None:
    lease = store.acquire_lease("a", 1000, 1000)
    for record in (
        Record(Pair(-1, 1), b"{}"),
        Record(Pair(1000, 2**64), b"{}"),
        Record(Pair(1000, 1), b"{}", recovery=Recovery("\ud83d", 1)),
    ):
        with pytest.raises(RecordRefused):
            store.save_records(lease, [record])
    assert store.first() is None


def test_state_that_no_document_can_hold_is_not_saved(store: FirestoreStore) -> None:
    """The error is the store's own, and what was remembered before stays."""
    lease = store.acquire_lease("a", 1000, 1000)
    state = SlaveState(1, "uuid", 1, None, {})
    store.save_slave(lease, "s", state)
    for wrong in (replace(state, store="\ud83d"), replace(state, generation=2**63)):
        with pytest.raises(StoreError, match="cannot hold the state of 's'"):
            store.save_slave(lease, "s", wrong)
    assert store.slave_states() == {"s": state}

    item = Quarantined("id", "s", 1, "reason", Record(Pair(1, 1), b"{"))
    store.save_quarantine(lease, [item])
    for odd in (
        replace(item, reason="\ud83d"),
        replace(item, id="\ud83d"),
        replace(item, record=Record(Pair(2**70, 1), b"{")),
    ):
        with pytest.raises(RecordRefused, match="cannot hold the record"):
            store.save_quarantine(lease, [odd])
    assert list(store.quarantine()) == [item]


def test_nothing_beyond_the_limits_is_sent(database: Database) -> None:
    def write(*sizes: int) -> Any:
        fields = {f"field{number}": bytes(size) for number, size in enumerate(sizes)}
        return write_document(database.name(PARTS, "id"), fields)

    database.commit([write(VALUE_LIMIT)])
    too_large = [
        [write(VALUE_LIMIT + 1)],
        [write(600_000, 600_000)],
        [write(1_000_000)] * 11,
    ]
    for writes in too_large:
        with pytest.raises(StoreError, match=r"not sent|too many"):
            database.commit(writes)
    assert database.operations.read().largest_request < REQUEST_LIMIT
    assert database.operations.read().commits == 1


def test_sizes_are_counted_as_firestore_counts_them() -> None:
    """The worked example of Firestore's page on storage size calculations: 147 bytes."""
    document = types.Document.pb()()
    document.name = "projects/p/databases/d/documents/users/jeff/tasks/my_task_id"
    document.fields["type"].string_value = "Personal"
    document.fields["done"].boolean_value = False
    document.fields["priority"].integer_value = 1
    document.fields["description"].string_value = "Learn Cloud Firestore"
    assert measure_document(document) == 147
