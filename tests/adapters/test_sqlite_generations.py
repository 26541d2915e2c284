"""A file that comes back, is restored or is replaced begins a generation; nothing else does."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import SqliteStore, registry
from portable_core.adapters.sqlite.folder import REFRESH_INTERVAL_S
from portable_core.errors import SettingsError, StoreError
from portable_core.ports import MAX_SPAN_MS, SlaveState
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_damages import damage_middle, make_hours, overwrite, truncate
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    fill,
    list_data_files,
    opened,
    read_timestamps,
)


def test_a_file_that_comes_back_begins_a_generation(tmp_path: Path) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    with opened(folder) as store:
        before = store.info()
    good = path.read_bytes()
    overwrite(path)
    with opened(folder) as store:
        damaged = store.info()
        store.append(hours[1][:5])  # some came again meanwhile, into another file
    assert damaged == before
    path.write_bytes(good)
    with opened(folder) as store:
        after = store.info()
        assert after.uuid == before.uuid
        assert after.generation >= int(time.time() * 1000) - 600_000
        assert list(store.records(*ALL)) == [record for hour in hours for record in hour]
        assert store.status().damaged == ()
    with opened(folder) as store:
        assert store.info() == after


def test_a_file_that_comes_back_while_the_store_is_open(tmp_path: Path) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    good = path.read_bytes()
    overwrite(path)
    with opened(folder) as store:
        generation = store.info().generation
        path.write_bytes(good)
        while store.info().generation == generation:
            time.sleep(0.05)
        assert list(store.records(*ALL)) == [record for hour in hours for record in hour]
        assert store.status().damaged == ()


def test_a_file_that_is_still_damaged_begins_nothing(tmp_path: Path) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    overwrite(path)
    with opened(folder) as store:
        before = store.info()
    truncate(path)
    with opened(folder) as store:
        assert store.info() == before
        assert [damage.name for damage in store.status().damaged] == [path.name]


def test_a_file_that_is_replaced_while_it_is_written(tmp_path: Path) -> None:
    """The replacement is noticed before a record for the old file is confirmed."""
    folder, other = tmp_path / "store", tmp_path / "other"
    fill(other, make_records(3))
    with opened(folder) as store:
        store.append(make_records(10))
        lease = store.acquire_lease("a", NOON, 1000)
        store.save_slave(lease, "s", SlaveState(cursor=NOON + 50))
        generation = store.info().generation
        os.replace(list_data_files(other)[0], list_data_files(folder)[0])
        later = make_record(NOON + 500)
        appended = False
        while not appended:
            try:
                store.append([later])
                appended = True
            except StoreError as error:
                assert "replaced" in str(error)  # noqa: PT017 -- it may or may not be noticed first
        while store.info().generation == generation:
            time.sleep(0.05)
        assert later in list(store.records(*ALL))
        assert store.slave_states()["s"].cursor == NOON // HOUR * HOUR - MAX_SPAN_MS
        assert store.status().damaged == ()


def test_removing_a_damaged_file_ends_the_damage(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    path = damage_middle(folder, make_hours())
    overwrite(path)
    with opened(folder) as store:
        assert [damage.name for damage in store.status().damaged] == [path.name]
        before = store.info()
        path.unlink()
        while store.status().damaged:
            time.sleep(0.05)
        assert store.info() == before
    with opened(folder) as store:
        assert store.status().damaged == ()
        assert store.info() == before


def test_an_added_file_begins_a_generation(tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "store"
    fill(other, make_records(5, NOON + HOUR))
    fill(folder, make_records(5))
    with opened(folder) as store:
        before = store.info()
    shutil.copy(list_data_files(other)[0], folder)
    with opened(folder) as store:
        assert store.info().generation > before.generation
        assert len(read_timestamps(store)) == 10


def test_what_a_crash_leaves_of_a_new_file_is_no_damage(tmp_path: Path) -> None:
    fill(tmp_path, make_records(5))
    with opened(tmp_path) as store:
        before = store.info()
    name = list_data_files(tmp_path)[0].name
    following = f"{int(name[:10]) + 1:010d}.0.sqlite3"
    (tmp_path / following).touch()
    with opened(tmp_path) as store:
        assert store.info() == before
        assert store.status().damaged == ()
        store.append(make_records(5, NOON + HOUR))
        assert len(read_timestamps(store)) == 10
    assert following in {path.name for path in list_data_files(tmp_path)}


def test_a_copied_folder_begins_a_generation(tmp_path: Path) -> None:
    """A snapshot is restored after more records came in and a horizon was reported."""
    folder, saved = tmp_path / "store", tmp_path / "saved"
    fill(folder, make_records(5))
    shutil.copytree(folder, saved)
    with opened(folder) as store:
        store.append(make_records(5, NOON + HOUR))
        before = store.info()
    shutil.rmtree(folder)
    shutil.copytree(saved, folder)
    with opened(folder) as store:
        after = store.info()
        assert after.uuid == before.uuid
        assert after.generation > before.generation
        assert len(read_timestamps(store)) == 5
    with opened(folder) as store:
        assert store.info() == after


def test_a_backup_put_back_over_the_same_files_begins_a_generation(tmp_path: Path) -> None:
    """Their inodes stay the same."""
    folder, saved = tmp_path / "store", tmp_path / "saved"
    fill(folder, make_records(5))
    shutil.copytree(folder, saved)
    with opened(folder) as store:
        store.append(make_records(5, NOON + 1000))
        before = store.info()
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    for path in saved.iterdir():
        shutil.copy2(path, folder / path.name)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == inodes
    with opened(folder) as store:
        assert store.info().generation > before.generation
        assert len(read_timestamps(store)) == 5


def test_a_start_that_fails_begins_no_generation(tmp_path: Path) -> None:
    fill(tmp_path, make_records(5))
    with opened(tmp_path) as store:
        before = store.info()
    with pytest.raises(SettingsError):
        SqliteStore(tmp_path).open("blake2b-1")
    with opened(tmp_path) as store:
        assert store.info() == before


def test_generations_follow_the_clock_and_still_only_grow(tmp_path: Path) -> None:
    seconds = [2_000_000_000.0, 5.0]
    generations = []
    for index, now in enumerate(seconds):
        store = SqliteStore(tmp_path / "store", clock=partial(float, now))
        store.open(ALGORITHM)
        store.append(make_records(1))
        store.close()
        shutil.copytree(tmp_path / "store", tmp_path / f"copy-{index}")
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / f"copy-{index}", tmp_path / "store")
        store = SqliteStore(tmp_path / "store", clock=partial(float, now))
        generations.append(store.open(ALGORITHM).generation)
        store.close()
    assert generations == [2_000_000_000_000, 2_000_000_000_001]


@pytest.mark.parametrize("change", ["make", "remove"])
def test_the_stores_own_files_begin_no_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A new hour begins, or retention removes a file, while another thread lists the folder."""

    def change_files() -> None:
        if change == "make":
            store.append([make_record(NOON + HOUR)])
        else:
            store.prune(NOON + HOUR)

    def change_before(step: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: object) -> Any:
            if changes:
                changes.pop()()
            return step(*args)

        return changed

    def change_after(step: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: object) -> Any:
            result = step(*args)
            if changes:
                changes.pop()()
            return result

        return changed

    changes: list[Callable[[], None]] = []
    for name, wrap in (("list_files", change_after), ("read_fingerprint", change_before)):
        folder = tmp_path / name
        with opened(folder) as store, monkeypatch.context() as patch:
            store.append([make_record(NOON), make_record(NOON + 2 * HOUR)])
            lease = store.acquire_lease("a", 1, 10)
            store.save_slave(lease, "x", SlaveState(NOON + 3 * HOUR, "store", 1, None, {}))
            before = store.info()
            patch.setattr(registry, name, wrap(getattr(registry, name)))
            changes.append(change_files)
            time.sleep(REFRESH_INTERVAL_S)
            assert store.info() == before
            assert not changes
            time.sleep(REFRESH_INTERVAL_S)
            assert store.info() == before
            assert store.status().damaged == ()
            assert store.slave_states()["x"].cursor == NOON + 3 * HOUR
            store.renew_lease(lease, 2, 10)
