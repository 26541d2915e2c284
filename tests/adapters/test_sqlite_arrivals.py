"""The order of arrival in a SQLite store: older stores, crashes, copies, files that come back."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.appender import Appender
from portable_core.errors import PositionUnknown, StoreError
from portable_core.ports import BEGINNING
from portable_core.records import Pair, Record, format_sort_key, pack_value
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_folders import ALGORITHM, fill, list_data_files, opened


def read_pairs(store: SqliteStore, after: str = BEGINNING) -> list[Pair]:
    return [arrival.record.pair for arrival in store.arrivals(after)]


def read_all(store: SqliteStore, after: str) -> tuple[list[Pair], str]:
    arrivals = list(store.arrivals(after))
    return [a.record.pair for a in arrivals], arrivals[-1].position if arrivals else after


# -- stores of older versions ----------------------------------------------------------------------


def make_older(folder: Path, records: list[Record]) -> None:
    """Make a store as older versions did: rows without places, and a state that has none."""
    fill(folder, records)
    state = sqlite3.connect(folder / "state.sqlite3")
    state.execute("DELETE FROM state WHERE key = 'store:places'")
    for path in list_data_files(folder):
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT key, value FROM unnamed ORDER BY rowid").fetchall()
        connection.execute("DELETE FROM unnamed")
        connection.executemany("INSERT INTO unnamed (key, value) VALUES (?, ?)", rows)
        connection.commit()
        connection.close()
        key = f"file:{path.name}"
        (saved,) = state.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        row = json.loads(saved)
        del row["records"]
        stat = path.stat()
        row["told"] = [len(rows), row["told"][1]]
        row["stamp"] = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
        state.execute("UPDATE state SET value = ? WHERE key = ?", (json.dumps(row), key))
    state.commit()
    state.close()


def test_records_of_an_older_version_come_first_in_order(tmp_path: Path) -> None:
    older = [make_record(NOON + n * HOUR // 3, n) for n in (5, 2, 9, 1, 7)]
    make_older(tmp_path, older)
    ordered = sorted(record.pair for record in older)
    with opened(tmp_path) as store:
        assert read_pairs(store) == ordered
        end = store.newest_arrival()
        assert read_pairs(store, end) == []
        position = list(store.arrivals())[1].position
        new = [make_record(NOON + n * HOUR // 3 + 1, n) for n in (4, 0, 6)]
        for record in new:
            store.append([record])
        later = [record.pair for record in new]
        assert read_pairs(store) == [*ordered, *later]
        assert read_pairs(store, position) == [*ordered[2:], *later]
        assert read_pairs(store, end) == later
        assert store.status().records == 8
    with opened(tmp_path) as store:
        assert read_pairs(store, end) == later
        assert read_pairs(store) == [*ordered, *later]
        assert store.status().records == 8


def test_an_older_version_may_write_in_between(tmp_path: Path) -> None:
    """It numbers rows by the highest rowid of a file. What it adds has a place, maybe the place of
    another record, or an earlier one than positions that were given out."""
    records = [make_record(NOON + n % 3 * HOUR + n, n) for n in range(9)]
    fill(tmp_path, records)
    for hour, path in enumerate(list_data_files(tmp_path)):
        connection = sqlite3.connect(path)
        added = make_records(5, NOON + hour * HOUR + 100)
        rows = [(format_sort_key(record.pair), pack_value(record)) for record in added]
        connection.executemany("INSERT OR IGNORE INTO unnamed (key, value) VALUES (?, ?)", rows)
        connection.commit()
        connection.close()
    with opened(tmp_path) as store:
        arrivals = list(store.arrivals())
        pairs = [arrival.record.pair for arrival in arrivals]
        assert len(pairs) == len(set(pairs)) == len(records) + 15
        for index, arrival in enumerate(arrivals):
            assert set(read_pairs(store, arrival.position)) >= set(pairs[index + 1 :])
        store.append([make_record(NOON + 600, 78)])
        assert read_pairs(store)[-1] == Pair(NOON + 600, 78)


# -- crashes ---------------------------------------------------------------------------------------


def test_a_batch_over_several_files_that_fails_keeps_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failing = Appender._append_to_hour, {1}

    def fail(self: Appender, hour: int, rows: list[tuple[int, str, bytes]], until: float) -> object:
        if hour - NOON // HOUR in failing:
            raise StoreError("the disk fails")
        return append(self, hour, rows, until)

    monkeypatch.setattr(Appender, "_append_to_hour", fail)
    batch = [make_record(NOON + hour * HOUR, hour) for hour in range(3)]
    with opened(tmp_path) as store:
        with pytest.raises(StoreError):
            store.append(batch)
        position = store.newest_arrival()
        assert read_pairs(store) == [batch[0].pair]
        failing.clear()
        store.append([make_record(NOON - HOUR, 9)])
        store.append(batch)
        got = [Pair(NOON - HOUR, 9), batch[1].pair, batch[2].pair]
        assert read_pairs(store, position) == got
        assert read_pairs(store) == [batch[0].pair, *got]


# -- copies and backups ----------------------------------------------------------------------------


@pytest.fixture
def histories(tmp_path: Path) -> tuple[Path, Path]:
    """A store, and a copy of its folder taken while it had ten records."""
    store, copy = tmp_path / "store", tmp_path / "copy"
    fill(store, make_records(10))
    shutil.copytree(store, copy)
    return store, copy


def test_a_backup_that_is_put_back_skips_nothing(
    histories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position of the time after the backup continues with all that the restored store adds."""
    monkeypatch.setattr("portable_core.adapters.sqlite.places._BLOCK", 8)
    folder, backup = histories
    position = BEGINNING
    positions: list[str] = []
    for step in range(12):
        with opened(folder) as store:
            for n in range(3):
                store.append([make_record(NOON + DAY + 10 * step + n, step)])
                positions.append(read_all(store, position)[1])
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    added = make_records(30, NOON + 2 * DAY)
    for n in range(3):
        with opened(folder) as store:
            store.append(added[10 * n : 10 * n + 10])
    unknown = 0
    with opened(folder) as store:
        for position in positions:
            try:
                got = read_pairs(store, position)
            except PositionUnknown as error:
                unknown += 1
                got = read_pairs(store, error.resume)
            assert got[-30:] == [record.pair for record in added]
    assert unknown > len(positions) / 2


def test_a_copy_that_was_written_to_does_not_pass_for_the_store(
    histories: tuple[Path, Path],
) -> None:
    folder, copy = histories
    with opened(copy) as store:
        store.append(make_records(50, NOON + DAY))
        position = store.newest_arrival()
    added = make_records(20, NOON + 2 * DAY)
    with opened(folder) as store:
        store.append(added)
        with pytest.raises(PositionUnknown, match="resume") as caught:
            read_pairs(store, position)
        assert read_pairs(store, caught.value.resume)[-20:] == [record.pair for record in added]


def test_positions_from_before_the_copy_hold_in_both(histories: tuple[Path, Path]) -> None:
    folder, copy = histories
    with opened(folder) as store:
        positions = [arrival.position for arrival in store.arrivals()]
    for path in (folder, copy):
        for _ in range(5):
            with opened(path) as store:
                store.append([make_record(NOON + DAY, 1)])
                for index, position in enumerate(positions):
                    assert len(read_pairs(store, position)) == 10 - index


# -- files that come back --------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [0, 1])
def test_records_of_a_file_that_comes_back_are_not_skipped(tmp_path: Path, damaged: int) -> None:
    """A reader that passed their places is sent back, and reads them."""
    folder, aside = tmp_path / "store", tmp_path / "aside"
    aside.mkdir()
    fill(folder, make_records(5, NOON))
    with opened(folder) as store:
        store.append(make_records(5, NOON + HOUR))
    path = list_data_files(folder)[damaged]
    os.replace(path, aside / path.name)
    with opened(folder) as store:
        store.append(make_records(5, NOON + 2 * HOUR))
        seen, position = read_all(store, BEGINNING)
        assert len(seen) == 10
    os.replace(aside / path.name, path)
    with opened(folder) as store:
        with pytest.raises(PositionUnknown) as caught:
            read_pairs(store, position)
        rest, position = read_all(store, caught.value.resume)
        assert len({*seen, *rest}) == 15
        store.append(make_records(5, NOON + 3 * HOUR))
        assert read_pairs(store, position) == [r.pair for r in make_records(5, NOON + 3 * HOUR)]


def test_places_of_a_lost_file_are_not_used_again(tmp_path: Path) -> None:
    fill(tmp_path, make_records(5, NOON))
    with opened(tmp_path) as store:
        store.append(make_records(5, NOON + HOUR))
        position = store.newest_arrival()
    list_data_files(tmp_path)[1].unlink()
    with opened(tmp_path) as store:
        assert read_pairs(store, position) == []
        store.append(make_records(5, NOON + 2 * HOUR))
        assert read_pairs(store, position) == [r.pair for r in make_records(5, NOON + 2 * HOUR)]


def test_a_file_of_another_history_gets_later_places_after_it(tmp_path: Path) -> None:
    """Its rowids are higher than those of this store; the next records still come after them."""
    folder, other = tmp_path / "store", tmp_path / "other"
    fill(other, make_records(3, NOON))
    for step in range(3):
        with opened(other) as store:
            store.append(make_records(3, NOON + (step + 1) * HOUR))
    fill(folder, make_records(3, NOON))
    shutil.copy(list_data_files(other)[-1], folder)
    with opened(folder) as store:
        seen, position = read_all(store, BEGINNING)
        assert len(seen) == 6
        store.append([make_record(NOON + DAY, 1)])
        assert read_pairs(store, position) == [Pair(NOON + DAY, 1)]


# -- many files ------------------------------------------------------------------------------------


def test_a_record_in_two_files_of_an_hour_has_one_place(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, file_bytes=4096)
    store.open(ALGORITHM)
    records = make_records(200)
    for at in range(0, 200, 10):
        store.append(records[at : at + 10])
    store.append(records[:20])
    assert len(list_data_files(tmp_path)) > 1
    assert read_pairs(store) == [record.pair for record in records]
    store.close()


def test_a_reader_process_has_no_order(tmp_path: Path) -> None:
    fill(tmp_path, make_records(3))
    store = SqliteStore(tmp_path, read_only=True)
    store.open("")
    with pytest.raises(StoreError, match="order of arrival"):
        list(store.arrivals())
    store.close()
