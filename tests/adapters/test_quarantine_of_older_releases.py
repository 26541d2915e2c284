"""Records that an older release has set aside are listed, counted and deleted like new ones."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore, documents
from portable_core.adapters.firestore import quarantine as module
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ports import Quarantined
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator
from tests.support.stores.samples import NOON, make_record

OLD_FIELDS = ("key", "slave", "reason", "value", "parts")


def make_item(number: int) -> Quarantined:
    return Quarantined(f"a-{number}", "a", NOON + number, "wrong", make_record(NOON, number))


def test_sqlite_without_a_saved_size(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.open("crc32c")
    lease = store.acquire_lease("a", 0, 10**6)
    store.save_quarantine(lease, [make_item(number) for number in range(5)])
    size = store.quarantine_size()
    store.close()
    with sqlite3.connect(tmp_path / "state.sqlite3") as database:
        assert database.execute("DELETE FROM state WHERE key = 'store:quarantine'").rowcount == 1
    database.close()
    store = SqliteStore(tmp_path)
    store.open("crc32c")
    assert store.quarantine_size() == size
    assert store.status().quarantine == size
    lease = store.acquire_lease("a", 10**6, 10**6)
    store.save_quarantine(lease, [make_item(4), make_item(5)])
    assert store.delete_quarantined(lease, "a-0")
    assert store.quarantine_size().records == 5
    assert len(store.list_quarantine(None, 10)) == 5
    store.close()


def test_firestore_without_the_fields_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    use_emulator()
    store = FirestoreStore(PROJECT, name_database(), commit_timeout_ms=10_000)
    store.open("crc32c")
    lease = store.acquire_lease("a", 0, 10**6)
    write = documents.write_document

    def write_old(name: str, fields: dict[str, object]) -> object:
        old = {key: value for key, value in fields.items() if key in OLD_FIELDS}
        return write(name, old)  # type: ignore[arg-type]  # a part of the fields

    monkeypatch.setattr(module, "write_document", write_old)
    store.save_quarantine(lease, [make_item(number) for number in range(3)])
    monkeypatch.undo()
    store.save_quarantine(lease, [make_item(3)])
    entries = store.list_quarantine(None, 10)
    assert [entry.id for entry in entries] == ["a-3", "a-2", "a-1", "a-0"]
    assert all(entry.size for entry in entries)
    assert entries[1].pair == make_item(2).record.pair
    assert store.quarantine_size().records == 4
    assert store.delete_quarantined(lease, "a-1")
    assert store.quarantine_size().records == 3
    store.close()
