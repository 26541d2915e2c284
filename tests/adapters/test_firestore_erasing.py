"""Deleting one webhook on Firestore: nothing of it is left in any document but its pair."""

from __future__ import annotations

import random
from typing import Any

import pytest

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.segments import erase_in_segment
from portable_core.ports import Tombstone
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from tests.support.firestore_emulator import connect_store, opened_database
from tests.support.stores.former_firestore import FormerWriter
from tests.support.stores.samples import NOON, make_records

ALL = (0, MAX_INTEGER + 1)
SECRET = Record(Pair(NOON + 3, 3), b'{"a":"secret"}', Meta("shop", {"x-a": "secret"}, key="k"))
LARGE = Record(Pair(NOON + 4, 4), random.Random(1).randbytes(2_000_000), Meta("secret"))


def list_tombstones(*records: Record) -> list[Tombstone]:
    return [Tombstone(record.pair, record.meta.key, NOON) for record in records]


@pytest.mark.parametrize("native_data", [False, True])
def test_parts_and_copies_are_deleted_with_the_record(native_data: bool) -> None:
    with opened_database() as database:
        store = connect_store(database, native_data=native_data)
        others = make_records(2, NOON + 10)
        store.append([SECRET, LARGE, *others])
        store.append([SECRET, make_records(1, NOON + 500)[0]])  # in two segments
        assert store.erase(list_tombstones(SECRET, LARGE)) == 2
        assert database.count("parts") == 0
        assert database.count("webhooks") == (3 if native_data else 0)
        pairs = [SECRET.pair, LARGE.pair, *(record.pair for record in others)]
        assert list(store.pairs(NOON, NOON + 100)) == pairs
        assert list(store.records(NOON, NOON + 100)) == others
        assert list(store.fetch(pairs)) == others
        other = connect_store(database)  # another instance that appends it again
        other.append([SECRET])
        assert list(other.records(NOON, NOON + 100)) == others
        assert store.prune(MAX_INTEGER) == 6
        assert database.count("segments") == 0
        other.close()
        store.close()


def test_records_of_the_former_layout_are_erased() -> None:
    with opened_database() as database:
        writer = FormerWriter(database)
        writer.create()
        others = make_records(2, NOON + 10)
        writer.append([SECRET, LARGE, *others])
        store = connect_store(database)
        positions = [arrival.position for arrival in store.arrivals()]
        assert store.erase(list_tombstones(SECRET, LARGE)) == 2
        assert store.erase(list_tombstones(SECRET, LARGE)) == 0
        assert database.count("parts") == 0
        assert list(store.records(*ALL)) == others
        assert len(list(store.pairs(*ALL))) == 4
        assert [a.record for a in store.arrivals(positions[0])] == others
        for document in find_documents(database, [SECRET, LARGE]):
            assert set(document.fields) == {"hash", "timestamp", "erased"}
        store.close()


def find_documents(database: Database, records: list[Record]) -> list[Any]:
    names = [
        database.name("webhooks", f"{record.pair.hash:014x}{record.pair.timestamp:014x}")
        for record in records
    ]
    return list(database.get(names)[0].values())


def test_two_instances_that_delete_at_once_lose_no_tombstone_and_restore_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second deletion happens between the first one's read of the segment and its write."""
    with opened_database() as database:
        one, other = connect_store(database), connect_store(database)
        records = make_records(4)
        one.append(records)
        module = "portable_core.adapters.firestore.erasing.erase_in_segment"

        def erase_late(document: object, index: int, at: int) -> object:
            monkeypatch.setattr(module, erase_in_segment)
            assert other.erase(list_tombstones(records[2])) == 1
            return erase_in_segment(document, index, at)

        monkeypatch.setattr(module, erase_late)
        assert one.erase(list_tombstones(records[1])) == 1
        assert list(one.records(*ALL)) == [records[0], records[3]]
        assert [number for number, _ in other.tombstones()] == [1, 2]
        one.close()
        other.close()
