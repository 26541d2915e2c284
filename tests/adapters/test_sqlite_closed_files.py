"""Closed files are trusted at a start: how changes are found, and what a crash leaves of them."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import SqliteStore, folder
from portable_core.adapters.sqlite.files import TICK_NS
from portable_core.errors import StoreError
from portable_core.ports import MAX_SPAN_MS, SlaveState
from portable_core.records import Pair, format_sort_key, pack_value
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_calls import counted
from tests.support.stores.sqlite_damages import overwrite
from tests.support.stores.sqlite_folders import (
    fill,
    list_data_files,
    opened,
    read_file_rows,
    read_timestamps,
    wait_until_checked,
)

# -- the check in the background -------------------------------------------------------------------


def make_few(path: Path) -> list[Path]:
    fill(path, [record for hour in range(5) for record in make_records(9, NOON + hour * HOUR)])
    with opened(path) as store:
        lease = store.acquire_lease("a", NOON, 1000)
        store.save_slave(lease, "s", SlaveState(cursor=NOON + 9 * HOUR))
        store.release_lease(lease)
    return list_data_files(path)


def change_unnoticed(path: Path, change: Callable[[Path], None]) -> None:
    """Change a file in place without a trace in its size and mtime."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def test_the_background_reads_every_file_once(tmp_path: Path) -> None:
    make_few(tmp_path)
    with opened(tmp_path) as store:
        wait_until_checked(store)
        assert store.status().damaged == ()
        assert store.status().unchecked == 0
        store.append(make_records(3, NOON + 6 * HOUR))
        store.append(make_records(3, NOON + 7 * HOUR))
        assert store.status().unchecked == 0
        assert not [path.name for path in tmp_path.glob("*.0.sqlite3-shm")][:-1]


def test_what_scans_leave_beside_closed_files_is_removed_at_the_next_start(tmp_path: Path) -> None:
    """SQLite creates a log and an index of 32 KiB for each database that is read."""
    files = make_few(tmp_path)
    for path in files:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert len(list(tmp_path.glob("0*-shm"))) == len(files)
    for _ in range(2):
        with opened(tmp_path) as store:
            wait_until_checked(store)
            assert list(tmp_path.glob("0*-*")) == []
            assert store.info().generation == 1
            assert store.status().damaged == ()


def test_the_background_finds_damage_that_left_no_trace(tmp_path: Path) -> None:
    path = make_few(tmp_path)[1]
    change_unnoticed(path, overwrite)
    with opened(tmp_path) as store:
        wait_until_checked(store)
        assert [damage.name for damage in store.status().damaged] == [path.name]
        assert len(read_timestamps(store)) == 36
        start = int(path.name[:10]) * HOUR
        assert store.slave_states()["s"].cursor == start - MAX_SPAN_MS
        assert store.status().records == 36


def remove_rows(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM unnamed WHERE rowid > (SELECT min(rowid) + 4 FROM unnamed)")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_the_background_finds_records_that_disappeared_without_a_trace(tmp_path: Path) -> None:
    path = make_few(tmp_path)[3]
    change_unnoticed(path, remove_rows)
    with opened(tmp_path) as store:
        wait_until_checked(store)
        assert [damage.name for damage in store.status().damaged] == [path.name]
        assert "it held 9 records and holds 5 now" in store.status().damaged[0].reason
        assert len(read_timestamps(store)) == 41


def add_rows(path: Path) -> None:
    connection = sqlite3.connect(path)
    timestamp = int(path.name[:10]) * HOUR + 7
    rows = [(format_sort_key(Pair(timestamp, 7)), pack_value(make_record(timestamp, 7)))]
    connection.executemany("INSERT INTO unnamed (key, value) VALUES (?, ?)", rows)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_records_that_the_background_finds_begin_a_generation(tmp_path: Path) -> None:
    """A horizon that was reported since the start does not cover them."""
    path = make_few(tmp_path)[2]
    change_unnoticed(path, add_rows)
    with opened(tmp_path) as store:
        wait_until_checked(store)
        assert store.status().damaged == ()
        assert store.info().generation > 1
        assert len(read_timestamps(store)) == store.status().records == 46


def test_a_file_that_was_touched_is_no_change(tmp_path: Path) -> None:
    path = make_few(tmp_path)[2]
    for _ in range(2):
        path.touch()
        with opened(tmp_path) as store:
            path.touch()
            wait_until_checked(store)
            assert store.info().generation == 1
            assert store.status().damaged == ()


def test_a_file_that_is_written_meanwhile_is_no_loss(tmp_path: Path) -> None:
    """The check reads closed files while recovered records open them again."""
    hours = [NOON + hour * HOUR for hour in range(40)]
    fill(tmp_path, [make_record(hour) for hour in hours])
    choice, expected = random.Random(3), set(hours)
    with opened(tmp_path) as store:
        while store.status().unchecked:
            batch = [
                make_record(hour + choice.randrange(9_999)) for hour in choice.sample(hours, 5)
            ]
            store.append(batch)
            expected.update(record.pair.timestamp for record in batch)
        assert set(read_timestamps(store)) == expected
        assert store.status().damaged == ()
        info = store.info()
    with opened(tmp_path) as store:
        assert set(read_timestamps(store)) == expected
        assert store.info() == info


# -- changes of a large folder ---------------------------------------------------------------------


@pytest.mark.parametrize("listed", [0, 500])
@pytest.mark.parametrize("change", ["remove", "replace", "add"])
def test_changes_of_closed_files_are_noticed_while_the_store_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, listed: int
) -> None:
    """With more than so many files the background lists the folder, and no request does."""
    monkeypatch.setattr(folder, "_MOST_FILES_LISTED", listed)
    other = tmp_path / "other"
    fill(other, make_records(7, NOON + (9 if change == "add" else 1) * HOUR))
    (theirs,) = list_data_files(other)
    path = make_few(tmp_path / "store")[1]
    with opened(tmp_path / "store") as store:
        wait_until_checked(store)
        generation = store.info().generation
        if change == "remove":
            path.unlink()
        else:
            os.replace(theirs, tmp_path / "store" / theirs.name)
        until = time.monotonic() + 30
        while not (store.status().damaged or store.info().generation > generation):
            assert time.monotonic() < until
            time.sleep(0.05)
        expected = {"remove": 36, "replace": 43, "add": 52}[change]
        assert len(read_timestamps(store)) == expected
        assert store.status().records == expected


def test_a_folder_that_has_not_changed_is_not_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_few(tmp_path)
    with opened(tmp_path) as store:
        wait_until_checked(store)
        time.sleep(TICK_NS / 1e9 + folder.REFRESH_INTERVAL_S)
        store.info()
        with counted(monkeypatch) as calls:
            for _ in range(3):
                time.sleep(folder.REFRESH_INTERVAL_S)
                store.info()
            assert calls["lists"] == 0


# -- closing, and crashes around it ----------------------------------------------------------------


def copy_as_killed(store: SqliteStore, path: Path) -> dict[Path, bytes]:
    """Return what ``kill -9`` would leave now."""
    return {file: file.read_bytes() for file in path.iterdir() if file.name != "lock"}


def put_back(files: dict[Path, bytes], path: Path) -> None:
    for file in path.iterdir():
        if file.name != "lock" and file not in files:
            file.unlink()
    for file, content in files.items():
        file.write_bytes(content)


def test_a_closed_file_that_was_written_again_before_a_crash(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(make_records(5))
        store.append(make_records(5, NOON + HOUR))
        store.append(make_records(5, NOON + HOUR))
        store.raise_mark("horizon", NOON + HOUR)  # this saves that the first file is closed
        store.append(make_records(9))
        left = copy_as_killed(store, tmp_path)
    for reported in (False, True):
        put_back(left, tmp_path)
        with opened(tmp_path) as store:
            assert len(read_timestamps(store)) == 14
            assert store.status().damaged == ()
            assert store.info().generation == 1
            if not reported:
                store.raise_mark("horizon", NOON + 2 * HOUR)
                left = copy_as_killed(store, tmp_path)


def test_the_logs_that_a_crash_leaves_are_merged_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        for hour in range(3):
            store.append(make_records(5, NOON + hour * HOUR))
        store.append(make_records(7))
        left = copy_as_killed(store, tmp_path)
    put_back(left, tmp_path)
    assert len([path for path in tmp_path.glob("0*-wal") if path.stat().st_size]) == 2
    with opened(tmp_path) as store:
        assert not [path for path in tmp_path.glob("0*-wal") if path.stat().st_size]
        assert len(read_timestamps(store)) == 17
    with counted(monkeypatch) as calls, opened(tmp_path) as store:
        assert calls["connects"] <= 4  # of the state
        assert len(read_timestamps(store)) == 17


def test_a_file_whose_creation_is_saved_but_fails_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of the state may take place although its deadline has passed."""
    with opened(tmp_path) as store:
        store.append(make_records(5))
        save = store._state.save_files

        def save_late(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            raise StoreError("the disk did not finish in time")

        monkeypatch.setattr(store._state, "save_files", save_late)
        with pytest.raises(StoreError):
            store.append(make_records(5, NOON + HOUR))
        monkeypatch.undo()
        assert len(read_file_rows(tmp_path)) == 2
        store.append(make_records(5, NOON + 2 * HOUR))
    with opened(tmp_path) as store:
        assert store.status().damaged == ()
        assert len(read_timestamps(store)) == 10


def test_a_file_is_not_saved_as_closed_while_a_change_might_leave_no_trace(tmp_path: Path) -> None:
    """Its size and mtime may stay the same when it is written again within the same tick."""
    with opened(tmp_path) as store:
        store.append(make_records(5))
        store.append(make_records(5, NOON + HOUR))
        store.append(make_records(6, NOON + HOUR))
        store.raise_mark("horizon", NOON + HOUR)
        name = list_data_files(tmp_path)[0].name
        assert read_file_rows(tmp_path)[name]["stamp"]
        store.append(make_records(9))
        assert not read_file_rows(tmp_path)[name]["stamp"]
