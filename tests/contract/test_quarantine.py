"""The contract of the quarantine, for every store: pages without payloads, its size, deletion."""

from __future__ import annotations

import pytest

from portable_core.errors import LeaseLost
from portable_core.ports import MasterStore, Quarantined, QuarantineEntry
from tests.support.stores.samples import NOON, make_record
from tests.support.stores.stores import ALGORITHM, SHORT, Place, let_expire

TTL = 30_000


def make_item(number: int, size: int = 10) -> Quarantined:
    record = make_record(NOON + number, number, bytes(size))
    return Quarantined(f"slave-1-{number:02}", "slave-1", NOON + number // 3, "wrong hash", record)


def read_pages(store: MasterStore, limit: int) -> list[QuarantineEntry]:
    """Return all entries, read in pages."""
    entries: list[QuarantineEntry] = []
    before: str | None = None
    while page := store.list_quarantine(before, limit):
        assert len(page) <= limit
        entries += page
        before = page[-1].position
    return entries


def test_an_empty_quarantine(store: MasterStore) -> None:
    assert store.list_quarantine(None, 10) == []
    assert store.quarantine_size() == (0, 0)
    assert store.find_quarantined("slave-1-00") is None


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_have_every_item_newest_first(store: MasterStore, limit: int) -> None:
    lease = store.acquire_lease("a", NOON, TTL)
    items = [make_item(number) for number in range(20)]
    store.save_quarantine(lease, items)
    entries = read_pages(store, limit)
    assert [(e.id, e.slave, e.at, e.reason, e.pair) for e in entries] == [
        (item.id, item.slave, item.at, item.reason, item.record.pair) for item in reversed(items)
    ]
    positions = [entry.position for entry in entries]
    assert positions == sorted(set(positions), reverse=True)


def test_an_item_is_found_whole(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    lease = store.acquire_lease("a", NOON, TTL)
    items = [make_item(1), make_item(2, size=3_000_000)]
    store.save_quarantine(lease, items)
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert [store.find_quarantined(item.id) for item in items] == items
    for id_ in ("", "slave-1-03", "slave-1-0%", "slave-1-01'", "x" * 2000):
        assert store.find_quarantined(id_) is None
    store.close()


def test_the_size_counts_each_item_once(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    lease = store.acquire_lease("a", NOON, TTL)
    store.save_quarantine(lease, [make_item(1), make_item(2, size=100_000)])
    first = store.quarantine_size()
    assert first.records == 2
    assert 100_000 < first.bytes < 110_000
    store.save_quarantine(lease, [make_item(2, size=100_000), make_item(3), make_item(3)])
    second = store.quarantine_size()
    assert second.records == 3
    assert first.bytes < second.bytes < first.bytes + 5_000
    assert sum(entry.size for entry in read_pages(store, 10)) == second.bytes
    status = store.status()
    assert status.quarantine == second
    assert status.bytes is None or status.bytes >= second.bytes
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert store.quarantine_size() == second
    store.close()


def test_a_deleted_item_is_gone(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    lease = store.acquire_lease("a", NOON, TTL)
    items = [make_item(1), make_item(2, size=3_000_000), make_item(3)]
    store.save_quarantine(lease, items)
    assert store.delete_quarantined(lease, items[1].id)
    assert not store.delete_quarantined(lease, items[1].id)
    assert not store.delete_quarantined(lease, "slave-1-0%")
    assert store.find_quarantined(items[1].id) is None
    assert list(store.quarantine()) == [items[0], items[2]]
    size = store.quarantine_size()
    assert size.records == 2
    assert size.bytes < 10_000
    store.save_quarantine(lease, [items[1]])  # it may come again
    assert store.find_quarantined(items[1].id) == items[1]
    for item in items:
        assert store.delete_quarantined(lease, item.id)
    assert store.quarantine_size() == (0, 0)
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert list(store.quarantine()) == []
    assert store.list_quarantine(None, 10) == []
    store.close()


def test_a_lost_lease_deletes_nothing(store: MasterStore) -> None:
    old = store.acquire_lease("a", NOON, SHORT)
    store.save_quarantine(old, [make_item(1)])
    let_expire(store)
    new = store.acquire_lease("b", NOON + TTL, TTL)
    for id_ in (make_item(1).id, make_item(2).id):
        with pytest.raises(LeaseLost):
            store.delete_quarantined(old, id_)
    assert list(store.quarantine()) == [make_item(1)]
    assert store.quarantine_size().records == 1
    assert store.delete_quarantined(new, make_item(1).id)
