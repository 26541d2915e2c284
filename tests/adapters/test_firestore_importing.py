"""Importing into Firestore: an archive comes back, wherever an earlier import has stopped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.archive_folder import ArchiveFolder
from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import SEGMENTS
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.records import MAX_INTEGER, Record
from portable_core.sync.archiving import ArchivedStretch
from portable_core.webhooks.archived import Stretch
from tests.adapters.test_firestore_interruptions import RECORDS_OF_TWO_SEGMENTS, run_interrupted
from tests.support.firestore_emulator import PROJECT, connect_store, opened_database
from tests.support.stores.former_firestore import FormerWriter
from tests.support.stores.samples import DAY, NOON, make_record, make_records
from tests.unit.test_master_retention import Rig

ALL = (0, MAX_INTEGER + 1)


@pytest.fixture
def database() -> Iterator[Database]:
    with opened_database() as database:
        yield database


def read_segments(database: Database) -> list[Any]:
    return list(database.scan(RangeQuery(SEGMENTS, "key"), 99))


def write_archive(rig: Rig, folder: Path) -> tuple[ArchiveFolder, Stretch]:
    """Archive what may be removed, and leave it in the master."""
    plan = rig.master.archiving.plan(rig.clock.now())
    assert plan.start is not None
    archive = ArchiveFolder(folder)
    with archive.hold():
        manifest = archive.open_for(plan.store, plan.hash)
        records = rig.store.records(plan.start, plan.end)
        _, stretch = archive.write(manifest, plan.start, plan.end, records)
    return archive, stretch


def test_an_archive_leaves_and_comes_back(database: Database, tmp_path: Path) -> None:
    """A consumer that is past it gets nothing twice; one that begins gets everything in order."""
    store = connect_store(database)
    rig = Rig(store, RETENTION_S="99999999")
    sent = rig.receive(8)
    rig.sync()
    rig.consumers.save("shop", "now")
    archive, stretch = write_archive(rig, tmp_path / "archive")
    wanted = ArchivedStretch(stretch.start, stretch.end, stretch.records, stretch.pairs)
    assert rig.master.archiving.remove(wanted).removed == stretch.records >= 12
    assert rig.read() == sent[stretch.records :]
    position = store.newest_arrival()
    records = [record for record, _ in archive.read(stretch)]
    bring_back = rig.master.archiving.bring_back
    assert bring_back(records[5:9]).stored == 4
    done = bring_back(records)
    assert (done.stored, done.present) == (len(records) - 4, 4)
    assert bring_back(records).present == len(records)
    assert rig.read() == sent
    assert [arrival.record.payload for arrival in store.arrivals()] == sent
    assert list(store.arrivals(position)) == []
    assert rig.consumers.describe_one("shop").lag_ms == 0
    _, again = write_archive(rig, tmp_path / "again")
    assert (again.lines, again.sha256) == (stretch.lines, stretch.sha256)
    assert rig.master.archiving.remove(wanted).removed == stretch.records
    assert rig.read() == sent[stretch.records :]
    store.close()


def test_an_import_that_ends_anywhere_is_completed(database: Database) -> None:
    """No half record is visible meanwhile, and a TTL policy does not remove what came back."""
    name = database.path.rpartition("/")[2]
    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000, ttl_ms=5000, native_data=True)
    store.open("crc32c")
    own = {record.pair: record for record in RECORDS_OF_TWO_SEGMENTS}
    lease = store.acquire_lease("test", 0, 1)
    for commits in range(10):
        load = partial(store.import_records, lease, RECORDS_OF_TWO_SEGMENTS)
        interrupted = run_interrupted(load, commits)
        seen = list(store.records(*ALL))
        assert {pair: own[pair] for pair in store.pairs(*ALL)} == {r.pair: r for r in seen}
        store.import_records(lease, [r for pair, r in own.items() if r not in seen])
        for records in (store.records(*ALL), (each.record for each in store.arrivals())):
            assert {record.pair: record for record in records} == own
        assert not any("expires" in segment.fields for segment in read_segments(database))
        assert store.prune(MAX_INTEGER) == len(own)
        if not interrupted:
            break
    assert commits == 3
    store.close()


def test_imported_records_come_before_pages_of_the_former_layout(database: Database) -> None:
    writer = FormerWriter(database)
    writer.create()
    pages: list[Record] = make_records(4, NOON, 20_000)
    for record in pages[:2]:
        writer.append([record], placed=False)
    writer.append(pages[2:])
    store = connect_store(database)
    positions = [arrival.position for arrival in store.arrivals()]
    old = make_records(3, NOON - DAY)
    store.import_records(store.acquire_lease("test", 0, 1), old)
    assert [arrival.record for arrival in store.arrivals()] == [*old, *pages]
    for number, position in enumerate(positions, 1):
        assert [arrival.record for arrival in store.arrivals(position)] == pages[number:]
    assert store.find_first_after(positions[0]) == pages[1].pair.timestamp
    between = next(iter(store.arrivals())).position
    assert [arrival.record for arrival in store.arrivals(between)] == [*old[1:], *pages]
    assert store.find_first_after(between) == NOON - DAY
    store.append([make_record(NOON + DAY, 9)])
    assert len(list(store.arrivals(between))) == 7
    store.close()
