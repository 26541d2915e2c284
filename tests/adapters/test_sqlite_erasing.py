"""Erasing in files: no byte of the payload stays in the folder, and the files stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.ports import Quarantined, Tombstone
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.stores.samples import HOUR, NOON

SECRET = b"a-name-that-nobody-may-read"
ALL = (0, MAX_INTEGER + 1)


def make_store(folder: Path) -> SqliteStore:
    store = SqliteStore(folder, file_bytes=60_000)
    store.open("crc32c")
    return store


def find_secret(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if SECRET in path.read_bytes()]


@pytest.mark.parametrize("size", [1, 20_000], ids=["a cell", "overflow pages"])
@pytest.mark.parametrize("reopened", [False, True])
def test_no_byte_of_the_payload_stays(tmp_path: Path, size: int, *, reopened: bool) -> None:
    store = make_store(tmp_path)
    records = [
        Record(
            Pair(NOON + n * HOUR // 2, n),
            b'{"n":%d,"s":"%b"}' % (n, (SECRET if n == 2 else b"x") * size),
        )
        for n in range(5)
    ]
    store.append(records)
    if reopened:
        store.close()
        store = make_store(tmp_path)
    assert find_secret(tmp_path) != []
    assert store.erase([Tombstone(records[2].pair, "", 1)]) == 1
    assert find_secret(tmp_path) == []
    store.append([Record(Pair(NOON + 2 * HOUR + 1, 77), b"{}")])
    kept = [*records[:2], *records[3:], Record(Pair(NOON + 2 * HOUR + 1, 77), b"{}")]
    assert sorted(store.records(*ALL), key=lambda r: r.pair) == sorted(kept, key=lambda r: r.pair)
    generation = store.info().generation
    store.close()
    store = make_store(tmp_path)
    assert store.info().generation == generation  # no file counts as replaced or lost
    assert list(store.losses()) == []
    assert store.status().records == 6
    assert len(list(store.records(*ALL))) == 5
    store.close()


def test_a_repair_keeps_what_was_erased_represented(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    records = [Record(Pair(NOON + n, n), b"{}") for n in range(4)]
    store.append(records)
    store.erase([Tombstone(records[0].pair, "", 1)])
    store.remove_after(NOON + 2)
    assert list(store.pairs(*ALL)) == [records[0].pair, records[1].pair]
    assert list(store.records(*ALL)) == records[1:2]
    store.close()


def test_an_item_that_leaves_the_quarantine_leaves_the_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    lease = store.acquire_lease("test", 0, 1)
    record = Record(Pair(NOON, 1), SECRET * 500)
    store.save_quarantine(lease, [Quarantined("a", "slave", 5, "bad", record)])
    store.delete_quarantined(lease, "a")
    store.close()
    assert find_secret(tmp_path) == []
