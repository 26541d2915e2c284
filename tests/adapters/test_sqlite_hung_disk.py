"""A disk that does not respond: an error in bounded time, and normal operation afterwards."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.writer import Writer
from portable_core.errors import LeaseHeld, LeaseLost, StoreError
from tests.support.stores.samples import HOUR, NOON, make_records
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    list_data_files,
    opened,
    read_timestamps,
)

# -- a database that does not respond --------------------------------------------------------------


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program holds the write lock of this database."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def wait_until_usable(store: SqliteStore) -> None:
    while True:
        try:
            return store.check()
        except StoreError:
            time.sleep(0.05)


def test_an_append_fails_at_its_deadline(tmp_path: Path) -> None:
    """All of this happens while the lock is held: it ends because the waits are bounded."""
    with opened(tmp_path) as store:
        store.append(make_records(3))
        with held(list_data_files(tmp_path)[0]):
            with pytest.raises(StoreError, match="in time"):
                store.append(make_records(5), 0.2)
            with pytest.raises(StoreError, match="earlier write"):
                store.append(make_records(5), 60.0)  # at once: the first may still take place
            with pytest.raises(StoreError):
                store.check()
            with pytest.raises(StoreError):
                store.acquire_lease("a", NOON, 1000)
            assert len(read_timestamps(store)) == 3
        wait_until_usable(store)
        resolved = read_timestamps(store)
        assert len(resolved) in (3, 5)
        time.sleep(0.1)
        assert read_timestamps(store) == resolved  # check() proved that nothing can still appear
        store.append(make_records(6))
        assert len(read_timestamps(store)) == 6
        store.acquire_lease("a", NOON, 1000)


def test_a_lock_that_stays_is_an_error_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(make_records(3))
        (path,) = list_data_files(tmp_path)
        with held(path):
            with pytest.raises(StoreError, match="another program holds a lock"):
                store.append(make_records(5))
            with pytest.raises(StoreError, match="another program holds a lock"):
                store.check()
            assert len(read_timestamps(store)) == 3
        with pytest.raises(StoreError, match="another program holds a lock"):
            store.check()  # no append has succeeded since
        wait_until_usable(store)
        assert os.stat(f"{path}-wal").st_size  # the proof is a page that was written
        store.append(make_records(5))
        assert len(read_timestamps(store)) == 5


def test_a_new_lease_waits_for_a_save_under_the_old_one(tmp_path: Path) -> None:
    """A sync stalls in the middle of a save until its lease has expired."""
    with opened(tmp_path) as store, ThreadPoolExecutor(1) as executor:
        store.append(make_records(1))
        old = store.acquire_lease("a", NOON, 1000)
        with held(list_data_files(tmp_path)[0]):
            stalled = executor.submit(store.save_records, old, make_records(5))
            while not store._write_lock.locked():
                time.sleep(0.01)
            new = store.acquire_lease("b", NOON + 1000, 1000)
            assert stalled.done()
        assert isinstance(stalled.exception(), StoreError)
        with pytest.raises(LeaseLost):
            store.save_records(old, make_records(5))
        assert len(read_timestamps(store)) == 1
        store.save_records(new, make_records(5))
        assert len(read_timestamps(store)) == 5


def test_a_state_that_does_not_respond(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, timeout_s=0.2)
    store.open(ALGORITHM)
    store.append(make_records(3))
    lease = store.acquire_lease("a", NOON, 1000)
    with held(tmp_path / "state.sqlite3"):
        with pytest.raises(StoreError):
            store.raise_mark("asked", 7)
        with pytest.raises(StoreError):
            store.renew_lease(lease, NOON + 1, 1000)
        with pytest.raises(StoreError):
            store.check()
        store.append(make_records(4))
        assert len(read_timestamps(store)) == 4
        assert store.mark("asked") == 0
    wait_until_usable(store)
    assert store.raise_mark("asked", 7) == 7
    with pytest.raises(LeaseHeld):
        store.acquire_lease("b", NOON + 2, 1000)
    store.close()


def test_a_file_that_the_state_cannot_save_is_not_created(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.open(ALGORITHM)
    store.append(make_records(3))
    with held(tmp_path / "state.sqlite3"):
        for _ in range(2):
            with pytest.raises(StoreError):
                store.append(make_records(3, NOON + HOUR))
    assert len(list_data_files(tmp_path)) == 1
    wait_until_usable(store)
    store.append(make_records(3, NOON + HOUR))
    assert len(list_data_files(tmp_path)) == 2
    generation = store.info().generation
    store.close()
    with opened(tmp_path) as again:
        assert again.info().generation == generation == 1
        assert len(read_timestamps(again)) == 6


def test_closing_keeps_the_lock_until_a_hung_disk_responds(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, lock_wait_s=0)
    store.open(ALGORITHM)
    store.append(make_records(3))
    with held(list_data_files(tmp_path)[0]):
        with pytest.raises(StoreError):
            store.append(make_records(5), 0.1)
        store.close()
        other = SqliteStore(tmp_path, lock_wait_s=0)
        hung = True
        try:
            other.open(ALGORITHM)
            hung = False  # it had ended already: then it may be opened
            other.close()
        except StoreError:
            pass
    while hung:
        try:
            store.open(ALGORITHM)
            hung = False
        except StoreError:
            time.sleep(0.05)
    if not hung:
        store.close()
    with opened(tmp_path) as again:
        again.append(make_records(6))
        assert len(read_timestamps(again)) == 6


def test_a_database_that_cannot_be_opened_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    with held(path):
        writer = Writer(path, ("unnamed",), 1)
        with pytest.raises(StoreError, match="does not respond"):
            writer.open(time.monotonic() + 0.1)
        assert not writer.ended
    while not writer.ended:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if "x.sqlite3" in t.name]


def test_a_folder_that_cannot_be_synced_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs while an hour's file is created: that wait is outside SQLite."""
    answers, sync = threading.Event(), os.fsync

    def sync_late(descriptor: int) -> None:
        answers.wait(30)
        sync(descriptor)

    with opened(tmp_path) as store:
        store.append(make_records(3))
        monkeypatch.setattr(os, "fsync", sync_late)
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(StoreError, match="disk"):
                store.append(make_records(3, NOON + HOUR), 0.3)
        assert time.monotonic() - started < 5
        answers.set()
        wait_until_usable(store)
        store.append(make_records(3, NOON + HOUR))
        assert list(store.records(*ALL)) == [*make_records(3), *make_records(3, NOON + HOUR)]
        assert store.info().generation == 1
        assert store.status().damaged == ()


def test_running_out_of_files_is_no_damage(tmp_path: Path) -> None:
    hours = [make_records(3, NOON + hour * HOUR) for hour in range(30)]
    with opened(tmp_path) as store:
        store.append([record for hour in hours for record in hour])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, hard))
        try:
            with pytest.raises(StoreError):
                store.append([record for hour in hours for record in hour])
            with pytest.raises(StoreError):
                list(store.records(*ALL))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert store.status().damaged == ()
        assert len(list(store.records(*ALL))) == 90
        store.append(make_records(4))
        assert len(list(store.records(*ALL))) == 91


def test_missing_permissions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "file").open(ALGORITHM)
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "file" / "store").open(ALGORITHM)
    with pytest.raises(StoreError):
        SqliteStore("/proc/self/store").open(ALGORITHM)
