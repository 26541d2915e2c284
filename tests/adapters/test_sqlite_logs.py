"""A data file whose write-ahead log was removed or exchanged is reported."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import StoreError
from tests.support.stores.disk_images import DiskImage
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_folders import (
    ALL,
    fill,
    grow_old,
    list_data_files,
    opened,
    read_timestamps,
)

COUNT = 20


def locate_log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def leave_as_killed(folder: Path, start: int = NOON) -> Path:
    """Leave a store as a process that was killed; its last records are in the log alone.

    No horizon was reported since, so the state knows nothing of them.
    """
    with opened(folder) as store:
        store.append(make_records(COUNT, start))
        image = DiskImage.take(folder)
    image.put_back(folder)
    return next(path for path in list_data_files(folder) if locate_log(path).exists())


def remove(log: Path) -> None:
    log.unlink()


def empty(log: Path) -> None:
    os.truncate(log, 0)


def exchange(log: Path) -> None:
    """Take the log of a file of another store."""
    other = leave_as_killed(log.parent.parent / "other", NOON + 1)
    shutil.copy(locate_log(other), log)


def bring_back(log: Path) -> None:
    """Take the log that the file had in an earlier process."""
    shutil.copy(log.parent.parent / "earlier-wal", log)


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("harm", [remove, empty, exchange, bring_back])
def test_a_log_that_is_gone_after_a_kill(
    tmp_path: Path, harm: Callable[[Path], None], *, reopened: bool
) -> None:
    folder = tmp_path / "store"
    earlier = leave_as_killed(folder, NOON - 1000)
    shutil.copy(locate_log(earlier), tmp_path / "earlier-wal")
    if not reopened:
        shutil.rmtree(folder)
    path = leave_as_killed(folder)
    harm(locate_log(path))
    with opened(folder) as store:
        (loss,) = store.losses()
        assert loss.name == path.name
        assert "write-ahead log" in loss.reason or loss.reason == "the file is empty"
        assert (loss.start, loss.end) == (NOON // HOUR * HOUR, NOON // HOUR * HOUR + HOUR)
        store.append(make_records(COUNT))  # senders send them again
        assert {NOON + 10 * n for n in range(COUNT)} <= set(read_timestamps(store))
    with opened(folder) as store:  # it stays named
        assert [loss.name for loss in store.losses()] == [path.name]


def test_a_log_that_is_there_is_no_loss(tmp_path: Path) -> None:
    """However often a process was killed, closed, or reused its log from the beginning."""
    folder = tmp_path / "store"
    for turn in range(3):
        leave_as_killed(folder, NOON + 1000 * turn)
        with opened(folder) as store:
            assert store.losses() == []
            for number in range(4):
                payload = b"x" * 3_000_000  # several times what SQLite keeps in a log
                store.append([make_record(NOON + 1000 * turn + 500 + number, 1, payload)])
            image = DiskImage.take(folder)
        image.put_back(folder)
    with opened(folder) as store:
        assert store.losses() == []
        assert len(read_timestamps(store)) == 3 * (COUNT + 4)
    with opened(folder) as store:
        assert store.losses() == []


def append_until_done(store: SqliteStore, start: int) -> None:
    for _ in range(3):
        try:
            store.append(make_records(COUNT, start))
            return
        except StoreError as error:
            assert "replaced while in use" in str(error)  # noqa: PT017 -- the first one
    pytest.fail("the store does not recover")


@pytest.mark.parametrize("harm", [remove, exchange])
def test_a_log_that_disappears_while_it_is_used(
    tmp_path: Path, age: Callable[[SqliteStore], None], harm: Callable[[Path], None]
) -> None:
    """The connection still has it, so its records can be moved into the file."""
    folder = tmp_path / "store"
    with opened(folder) as store:
        store.append(make_records(COUNT))
        age(store)
        (path,) = list_data_files(folder)
        harm(locate_log(path))
        append_until_done(store, NOON + 1000)
        there = read_timestamps(store)
        lost = [loss.name for loss in store.losses()]
        assert len(there) == 2 * COUNT or lost == [path.name]
    with opened(folder) as store:
        assert read_timestamps(store) == there
        assert [loss.name for loss in store.losses()] == lost


def test_a_log_that_disappears_while_another_hour_is_written(tmp_path: Path) -> None:
    """Nothing is written to the file any more; the next start notices it at the latest."""
    folder = tmp_path / "store"
    with opened(folder) as store:
        store.append(make_records(COUNT))
        (path,) = list_data_files(folder)
        store.append(make_records(COUNT, NOON + HOUR))
        assert not locate_log(path).exists()  # the hour has passed: the file is closed
    with opened(folder) as store:
        assert store.losses() == []
        assert len(list(store.pairs(*ALL))) == 2 * COUNT


def test_a_store_of_an_older_version_has_no_salts(tmp_path: Path) -> None:
    """Its files that are open are read as before."""
    folder = tmp_path / "store"
    fill(folder, make_records(COUNT))
    path = leave_as_killed(folder, NOON + 1000)
    connection = sqlite3.connect(folder / "state.sqlite3")
    connection.execute(
        "UPDATE state SET value = json_remove(CAST(value AS TEXT), '$.log', '$.tail') "
        "WHERE key GLOB 'file:*'"
    )
    connection.commit()
    connection.close()
    locate_log(path).unlink()
    with opened(folder) as store:
        assert store.losses() == []


def test_an_append_does_not_read_the_times_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some versions of Linux would then record the exact time of the next write to the log."""
    folder = tmp_path / "store"
    read: list[str] = []
    stat = os.stat

    def note(path: str | Path, *arguments: Any, **options: Any) -> os.stat_result:
        read.append(str(path))
        return stat(path, *arguments, **options)

    with opened(folder) as store:
        store.append(make_records(1))
        grow_old(store, monkeypatch)
        monkeypatch.setattr(os, "stat", note)
        for number in range(3):
            store.append([make_record(NOON + 1000 + number)])
        monkeypatch.undo()
        (path,) = list_data_files(folder)
    assert f"{folder}/" in read
    assert str(locate_log(path)) not in read
