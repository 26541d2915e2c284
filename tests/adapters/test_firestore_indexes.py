"""``containers/firestore.indexes.json``: an index for each query, and for nothing else."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.ports import ConsumerState, Quarantined, SlaveState, Tombstone
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.firestore_emulator import PROJECT, opened_database
from tests.support.stores.former_firestore import FormerWriter

FILE = Path(__file__).parents[2] / "containers" / "firestore.indexes.json"

#: Indexes without a query: the sum of sizes needs an index on the summed field.
SUMMED = {("segments", "bytes", "ASCENDING"), ("pages", "bytes", "ASCENDING")}


def test_every_query_has_its_index_and_no_other_field_is_indexed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: set[tuple[str, str, str]] = set()
    read_page = Database.read_page

    def note_query(database: Database, query: RangeQuery, *rest: object) -> list[object]:
        order = "DESCENDING" if query.descending else "ASCENDING"
        asked.add((query.collection, query.field, order))
        return read_page(database, query, *rest)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(Database, "read_page", note_query)
    with opened_database() as database:
        writer = FormerWriter(database, f"{int(time.time() * 1000):011x}abcde")
        writer.create()
        writer.append([Record(Pair(500, 1), b"{}")])
        name = database.path.rpartition("/")[2]
    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000, ttl_ms=1000, native_data=True)
    use_all_of(store)
    written = {*store.operations.writes, "pages"}

    overrides = json.loads(FILE.read_text())["fieldOverrides"]
    indexed = {
        (override["collectionGroup"], override["fieldPath"], index["order"])
        for override in overrides
        for index in override["indexes"]
    }
    exempt = {o["collectionGroup"] for o in overrides if o["fieldPath"] == "*" and not o["indexes"]}
    assert indexed == asked | SUMMED
    assert exempt == written


def use_all_of(store: FirestoreStore) -> None:
    """Call every method that reads or writes."""
    store.open("crc32c")
    record = Record(Pair(1000, 1), random.Random(1).randbytes(2_000_000))
    store.append([record])
    list(store.records(0, MAX_INTEGER))
    store.latest(MAX_INTEGER, 1)
    list(store.arrivals())
    store.newest_arrival()
    store.save_consumer("c", ConsumerState("", 1))
    store.consumers()
    store.find_first_after(f"p{0:028x}")
    store.find_first_after(f"{0:x}")
    store.find_size_cut(1, MAX_INTEGER)
    store.raise_mark("asked", 1)
    lease = store.acquire_lease("a", 1000, 1000)
    store.renew_lease(lease, 1000, 1000)
    store.save_records(lease, [record])
    store.save_slave(lease, "s", SlaveState())
    store.slave_states()
    store.save_quarantine(lease, [Quarantined("id", "s", 1000, "reason", record)])
    list(store.quarantine())
    store.release_lease(lease)
    store.erase([Tombstone(record.pair, "", 1)])
    store.prune_to_size(1)
    store.prune(MAX_INTEGER)
    store.status()
    store.bump_generation()
    store.check()
    store.close()
