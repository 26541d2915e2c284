"""Retention removes whole files, in an order that survives a crash."""

from __future__ import annotations

import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.folder import REFRESH_INTERVAL_S
from portable_core.errors import StoreError
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_damages import damage_middle, make_hours, overwrite
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    fill,
    list_data_files,
    opened,
    read_timestamps,
)


def test_prune_removes_the_files_of_hours_that_ended(tmp_path: Path) -> None:
    hours = [NOON + hour * HOUR for hour in range(5)]
    with opened(tmp_path) as store:
        store.append([make_record(hour) for hour in hours])
        store.prune(hours[2] // HOUR * HOUR - 1)
        assert read_timestamps(store) == hours[1:]
        store.prune(hours[2] // HOUR * HOUR)
        assert read_timestamps(store) == hours[2:]
        assert len(list_data_files(tmp_path)) == 3
        leftovers = [path.name for path in tmp_path.iterdir() if path.name[0].isdigit()]
        assert len({name[:12] for name in leftovers}) == 3
    with opened(tmp_path) as store:
        assert read_timestamps(store) == hours[2:]
        assert store.status().damaged == ()


def test_a_removed_hour_can_be_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(make_records(5))
        store.prune(NOON + HOUR)
        store.append(make_records(3))
        assert len(read_timestamps(store)) == 3
        before = store.info()
    with opened(tmp_path) as store:
        assert len(read_timestamps(store)) == 3
        assert store.info() == before


def test_a_removal_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    """The process ends between saving the state and removing the file."""
    fill(tmp_path, [*make_records(5), *make_records(5, NOON + HOUR)])
    first = list_data_files(tmp_path)[0]
    connection = sqlite3.connect(tmp_path / "state.sqlite3")
    place = f"file:{first.name}"
    connection.execute(
        "UPDATE state SET value = CAST(json_set(value, '$.in_transition', json('true')) AS BLOB) "
        "WHERE key = ?",
        (place,),
    )
    connection.commit()
    connection.close()
    with opened(tmp_path) as store:
        assert len(read_timestamps(store)) == 5
        assert store.status().damaged == ()
        generation = store.info().generation
    assert not first.exists()
    with opened(tmp_path) as store:
        assert store.info().generation == generation == 1


def test_damaged_files_are_removed_with_their_hour(tmp_path: Path) -> None:
    fill(tmp_path, [*make_records(5), *make_records(5, NOON + HOUR)])
    path = list_data_files(tmp_path)[0]
    path.write_bytes(b"no database")
    with opened(tmp_path) as store:
        assert len(store.status().damaged) == 1
        store.prune(NOON + HOUR // 2)
        assert store.status().damaged == ()
        assert len(read_timestamps(store)) == 5
    assert not path.exists()


def test_files_follow_one_another_by_size_where_the_limit_is_small(tmp_path: Path) -> None:
    """Within one hour, too, the limit holds and the newest records stay."""
    limit = 8 * 1024 * 1024
    noise = random.Random(5)
    with opened(tmp_path) as store:
        timestamp, gaps = NOON, []
        assert store.prune_to_size(limit) is None
        for _ in range(60):
            store.append([make_record(timestamp + i, i, noise.randbytes(4000)) for i in range(100)])
            timestamp += 100
            gap = store.prune_to_size(limit)
            if gap is not None:
                gaps.append(gap)
            size = store.status().bytes
            assert size is not None
            assert size <= limit
        left = read_timestamps(store)
        assert left == list(range(left[0], timestamp))
        assert len(left) > 1000
        assert gaps[0][0] == NOON
        assert all(gap[1] == after[0] for gap, after in pairwise(gaps))
        assert gaps[-1][1] == left[0]
        assert store.status().gaps == tuple(gaps)


def test_the_newest_file_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([*make_records(5), *make_records(5, NOON + HOUR)])
        gap = store.prune_to_size(0)
        assert gap == (NOON, NOON + 41)
        assert store.prune_to_size(0) is None
        assert len(read_timestamps(store)) == 5


def test_many_gaps_become_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable_core.adapters.sqlite.state._MAX_GAPS", 5)
    with opened(tmp_path) as store:
        for hour in range(9):
            store.append([make_record(NOON + hour * HOUR)])
            store.prune_to_size(0)
        gaps = store.status().gaps
        assert len(gaps) == 5
        assert gaps[0] == (NOON, NOON + 3 * HOUR + 1)
        assert gaps[-1] == (NOON + 7 * HOUR, NOON + 7 * HOUR + 1)


def test_nothing_is_removed_while_a_write_is_open(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.open(ALGORITHM)
    store.append([*make_records(5), *make_records(5, NOON + HOUR)])
    connection = sqlite3.connect(list_data_files(tmp_path)[1], isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError):
        store.append(make_records(5, NOON + HOUR + 1), 0.1)
    with pytest.raises(StoreError):
        store.prune(NOON + HOUR)
    assert list(store.records(*ALL))
    connection.rollback()
    connection.close()
    store.close()


def test_a_file_that_comes_back_during_a_prune_stays(tmp_path: Path) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    good = path.read_bytes()
    overwrite(path)
    with opened(folder) as store, ThreadPoolExecutor(1) as threads:
        with store._appending(store._until()):  # a write that takes its time
            removal = threads.submit(store.prune, NOON + 100 * HOUR)
            time.sleep(0.2)
            path.write_bytes(good)
            time.sleep(REFRESH_INTERVAL_S)
            store.info()
        removal.result(10)
        assert list(store.records(*ALL)) == hours[1]
