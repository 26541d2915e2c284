"""A file that opens, but lacks records behind a reported horizon or cursor."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import StoreError
from portable_core.ports import MAX_SPAN_MS, PartState, SlaveState
from tests.adapters.test_sqlite_hung_disk import held
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    list_data_files,
    list_pairs,
    opened,
    read_timestamps,
)

COUNT = 1500
RECORDS = [make_record(NOON + i, i, random.Random(i).randbytes(3000)) for i in range(COUNT)]


def remove(log: Path) -> None:
    log.unlink()


def empty(log: Path) -> None:
    os.truncate(log, 0)


def halve(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 2)


def flip_some_bytes(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(b"\xff" * 64)


def save_cursor(store: SqliteStore, cursor: int) -> None:
    lease = store.acquire_lease("a", NOON, 10)
    part = PartState(cursor, cursor + HOUR, 5, 1, 7)
    store.save_slave(lease, "x", SlaveState(cursor, "store", 1, None, {}, part))
    # Its cursor is so early that it stays, but its part relies on later records.
    early = PartState(1, cursor, 5, 1, 7)
    store.save_slave(lease, "early", SlaveState(1, "store", 1, None, {}, early))
    store.release_lease(lease)


def report_horizon(store: SqliteStore) -> None:
    save_cursor(store, NOON + HOUR)
    store.append(RECORDS[-500:])
    store.raise_mark("horizon", NOON + HOUR)


def report_cursor(store: SqliteStore) -> None:
    store.raise_mark("horizon", NOON + HOUR)
    store.append(RECORDS[-500:])
    save_cursor(store, NOON + HOUR)


def leave_as_killed(folder: Path, report: Callable[[SqliteStore], None]) -> Path:
    """Fill a store and leave its file as ``kill -9`` would, much of it in the write-ahead log."""
    with opened(folder) as store:
        for at in range(0, COUNT - 500, 50):
            store.append(RECORDS[at : at + 50])
        report(store)
        (path,) = list_data_files(folder)
        log = Path(f"{path}-wal")
        main, logged = path.read_bytes(), log.read_bytes()
    path.write_bytes(main)
    log.write_bytes(logged)
    return path


def find_damaged(store: SqliteStore) -> list[str]:
    return [damage.name for damage in store.status().damaged]


@pytest.mark.parametrize("report", [report_horizon, report_cursor])
@pytest.mark.parametrize("damage", [remove, empty, halve, flip_some_bytes])
def test_a_write_ahead_log_that_lost_records(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    report: Callable[[SqliteStore], None],
) -> None:
    path = leave_as_killed(tmp_path, report)
    damage(Path(f"{path}-wal"))
    with opened(tmp_path) as store:
        assert find_damaged(store) == [path.name]
        assert f"it held {COUNT} records" in store.status().damaged[0].reason
        left = list(store.records(*ALL))
        assert 0 < len(left) < COUNT
        assert left == RECORDS[: len(left)]  # what is left is served
        assert store.slave_states()["x"].cursor == NOON - HOUR // 2 - MAX_SPAN_MS
        assert store.slave_states()["early"].cursor == 1
        assert [state.part for state in store.slave_states().values()] == [None, None]
        assert store.mark("horizon") == NOON + HOUR
        assert store.info().generation == 1
        store.append(RECORDS)  # they came again
        assert list(store.records(*ALL)) == RECORDS
        save_cursor(store, NOON + HOUR)
    assert len(list_data_files(tmp_path)) == 2  # nothing is added to a file with a loss
    assert caplog.text.count("has lost records") == 1
    with opened(tmp_path) as store:  # it stays named, and costs nothing again
        assert find_damaged(store) == [path.name]
        assert store.slave_states()["x"].cursor == NOON + HOUR
        assert list(store.pairs(*ALL)) == list_pairs(RECORDS)


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    leave_as_killed(tmp_path, report_horizon)
    with opened(tmp_path) as store:
        assert find_damaged(store) == []
        assert list(store.records(*ALL)) == RECORDS
        assert store.slave_states()["x"].cursor == NOON + HOUR
        assert all(state.part for state in store.slave_states().values())


def test_an_older_copy_over_the_same_file_and_the_newer_one_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(RECORDS[:100])
    (path,) = list_data_files(tmp_path)
    old = path.read_bytes()
    with opened(tmp_path) as store:
        store.append(RECORDS[100:200])
        save_cursor(store, NOON + HOUR)
    whole = path.read_bytes()
    path.write_bytes(old)
    with opened(tmp_path) as store:
        assert find_damaged(store) == [path.name]
        assert store.slave_states()["x"].cursor == NOON - HOUR // 2 - MAX_SPAN_MS
        assert store.info().generation == 1
    path.write_bytes(whole)
    with opened(tmp_path) as store:  # records came back before the reported horizon
        assert find_damaged(store) == []
        assert len(read_timestamps(store)) == 200
        assert store.info().generation > 1


def test_a_reader_reports_a_loss_and_saves_nothing(tmp_path: Path) -> None:
    path = leave_as_killed(tmp_path, report_horizon)
    remove(Path(f"{path}-wal"))
    reader = SqliteStore(tmp_path, read_only=True)
    reader.open(ALGORITHM)
    assert find_damaged(reader) == [path.name]
    assert reader.slave_states()["x"].cursor == NOON + HOUR
    reader.close()


def test_an_extent_is_never_saved_before_its_commit(tmp_path: Path) -> None:
    """Otherwise a power cut would look like a loss."""
    with opened(tmp_path) as store:
        store.append(RECORDS[:10])
        (path,) = list_data_files(tmp_path)
        with held(path), pytest.raises(StoreError):
            store.append(RECORDS[10:20], 5)
        store.raise_mark("horizon", NOON + HOUR)
    with opened(tmp_path) as store:
        assert find_damaged(store) == []
        assert len(read_timestamps(store)) == 10
