"""A repair of a SQLite store beside a process that only reads it."""

from __future__ import annotations

from pathlib import Path

from portable_core.adapters.sqlite import SqliteStore
from portable_core.records import MAX_INTEGER
from portable_core.sync.repair import Repair
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_folders import list_data_files, opened

YEAR = 365 * DAY
ALL = (0, MAX_INTEGER + 1)


def test_a_reader_gets_every_record_before_meanwhile_and_after(tmp_path: Path) -> None:
    right = make_records(3_000, NOON - HOUR // 4, 100)
    ahead = [make_record(NOON + 60_000 + n * 300, 10_000 + n) for n in range(3_000)]
    hashes = sorted(record.pair.hash for record in [*right, *ahead])
    with opened(tmp_path) as store:
        store.append([*right, *ahead])
        reader = SqliteStore(tmp_path, read_only=True)
        reader.open("")
        scan = reader.records(*ALL)
        seen = [next(scan) for _ in range(100)]
        assert Repair(store, NOON, 120_000).run().moved > 2_000
        assert sorted(pair.hash for pair in reader.pairs(*ALL)) == hashes
        # What began before sees the store as it was.
        seen += scan
        assert [record.pair for record in seen] == [record.pair for record in [*right, *ahead]]
        reader.close()


def test_the_old_files_are_removed_at_the_next_start(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([*make_records(10), *make_records(10, NOON + YEAR)])
        Repair(store, NOON + HOUR, 120_000).run()
        old = [
            path for path in list_data_files(tmp_path) if path.name > f"{(NOON + DAY) // HOUR:010d}"
        ]
        assert len(old) == 1
    with opened(tmp_path) as store:
        assert len(list(store.pairs(*ALL))) == 20
        assert store.status().records == 20
        assert not old[0].exists()
        info = store.info()
    with opened(tmp_path) as store:
        assert store.info() == info
        assert store.losses() == []
