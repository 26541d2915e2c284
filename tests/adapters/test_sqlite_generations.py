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


@pytest.mark.parametrize("count", [3, 400])
def test_a_file_that_is_replaced_while_it_is_written(
    tmp_path: Path, age: Callable[[SqliteStore], None], count: int
) -> None:
    """Its write-ahead log stays: with that, the other file may even hold the same records."""
    folder, other = tmp_path / "store", tmp_path / "other"
    fill(other, make_records(count, NOON + 5))
    fill(folder, make_records(200))
    with opened(folder) as store:
        store.append([make_record(NOON + 5000)])
        lease = store.acquire_lease("a", NOON, 1000)
        store.save_slave(lease, "s", SlaveState(cursor=NOON + 50))
        generation = store.info().generation
        age(store)
        os.replace(list_data_files(other)[0], list_data_files(folder)[0])
        later = make_record(NOON + 500)
        appended = False
        while not appended:
            try:
                store.append([later])
                appended = True
            except StoreError as error:
                assert "replaced" in str(error)  # noqa: PT017 -- it may or may not be noticed first
        until = time.monotonic() + 30
        while not store.losses() and time.monotonic() < until:
            time.sleep(0.05)
        (loss,) = store.losses()
        assert loss.name == list_data_files(folder)[0].name
        assert later in list(store.records(*ALL))
        assert store.slave_states()["s"].cursor == NOON // HOUR * HOUR - MAX_SPAN_MS
        begun = store.info().generation > generation
        assert begun == ("another file" in loss.reason)


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


def put_copy(saved: Path, folder: Path) -> None:
    """Give the folder new files."""
    shutil.rmtree(folder)
    shutil.copytree(saved, folder)


def overwrite_with_copy(saved: Path, folder: Path) -> None:
    """Leave the inodes as they are."""
    for path in saved.iterdir():
        shutil.copy2(path, folder / path.name)


def change_owner_and_mode(saved: Path, folder: Path) -> None:
    """Set them to what they are already, as Kubernetes does at every start for ``fsGroup``."""
    for path in folder.iterdir():
        stat = path.stat()
        os.chown(path, stat.st_uid, stat.st_gid)
        path.chmod(stat.st_mode & 0o7777)


@pytest.mark.parametrize("change", [put_copy, overwrite_with_copy, change_owner_and_mode])
def test_a_copy_or_new_times_of_all_files_begin_no_generation(
    tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    """Whether the store continues, its stints tell; inodes and change times do not."""
    folder, saved = tmp_path / "store", tmp_path / "saved"
    fill(folder, make_records(5))
    with opened(folder) as store:
        before = store.info()
    shutil.copytree(folder, saved)
    change(saved, folder)
    with opened(folder) as store:
        assert store.info() == before
        assert store.losses() == []
        assert len(read_timestamps(store)) == 5
        store.append(make_records(5, NOON + 1000))
    with opened(folder) as store:
        assert store.info() == before
        assert store.losses() == []


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
        fill(tmp_path / f"other-{index}", make_records(5, NOON + index * HOUR))
        store = SqliteStore(tmp_path / "store", clock=partial(float, now))
        store.open(ALGORITHM)
        store.close()
        shutil.copy(list_data_files(tmp_path / f"other-{index}")[0], tmp_path / "store")
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
