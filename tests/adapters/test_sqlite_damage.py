"""A damaged file costs its own records, is named, and never stops the rest."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import LeaseLost, SettingsError, StoreError
from portable_core.ports import MAX_SPAN_MS, SlaveState
from portable_core.records import Record
from tests.adapters.sqlite_folders import (
    ALGORITHM,
    ALL,
    fill,
    list_data_files,
    opened,
    read_timestamps,
    take_pairs,
)
from tests.contract.samples import HOUR, NOON, make_record, make_records


def overwrite(path: Path) -> None:
    path.write_bytes(random.Random(5).randbytes(path.stat().st_size))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace_with_text(path: Path) -> None:
    path.write_text("this is a text, and no database at all\n" * 50)


def replace_with_foreign_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.commit()
    connection.close()


def replace_with_other_store(path: Path) -> None:
    """A file of the right form, made with another hash algorithm."""
    other = path.parent.parent / "other"
    store = SqliteStore(other)
    store.open("blake2b-1")
    store.append([make_record(NOON + HOUR, 99)])
    store.close()
    shutil.move(list_data_files(other)[0], path)


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [
    overwrite,
    truncate,
    empty,
    replace_with_text,
    replace_with_foreign_database,
    replace_with_other_store,
    replace_with_folder,
    remove,
]


def make_hours() -> list[list[Record]]:
    """Three hours of records, so large that a file has many pages."""
    noise = random.Random(6)
    return [
        [make_record(NOON + hour * HOUR + i, i, noise.randbytes(500)) for i in range(50)]
        for hour in range(3)
    ]


def damage_middle(folder: Path, hours: list[list[Record]]) -> Path:
    """Fill the folder and return the file of the middle hour."""
    fill(folder, [record for hour in hours for record in hour])
    return list_data_files(folder)[1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_rest_is_served_and_the_file_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    damage(path)
    with opened(folder) as store:
        rest = [*hours[0], *hours[2]]
        assert list(store.pairs(*ALL)) == take_pairs(rest)
        assert list(store.records(*ALL)) == rest
        assert store.fetch(take_pairs([hours[0][3], hours[1][3], hours[2][3]])) == [
            hours[0][3],
            hours[2][3],
        ]
        assert store.latest(NOON + 2 * HOUR, 100) == take_pairs(hours[0])[::-1]
        status = store.status()
        (told,) = status.damaged
        assert told.name == path.name
        assert told.reason
        assert told.start is not None
        assert told.end is not None
        assert told.start <= NOON + HOUR < told.end
        assert status.records == 100
    assert f"{path.name} is damaged" in caplog.text


@pytest.mark.parametrize("damage", [overwrite, truncate, empty, replace_with_text])
def test_the_hour_goes_on_in_another_file(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    before = path.read_bytes()
    damage(path)
    later = make_record(NOON + HOUR + 70, 7)
    with opened(folder) as store:
        store.append([*hours[1][:10], later])
        expected = [*hours[0], *hours[1][:10], later, *hours[2]]
        assert list(store.records(*ALL)) == expected
    assert path.name in {file.name for file in list_data_files(folder)}
    assert path.read_bytes() != before
    with opened(folder) as store:
        assert list(store.records(*ALL)) == expected
        assert [damage.name for damage in store.status().damaged] == [path.name]


def test_damage_of_the_file_that_is_being_written(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(make_records(100))
        (path,) = list_data_files(tmp_path)
        path.unlink()
        store.append(make_records(5, NOON + 5000))
        assert read_timestamps(store) == [NOON + 5000 + 10 * i for i in range(5)]
        assert [damage.name for damage in store.status().damaged] == [path.name]
    with opened(tmp_path) as store:
        assert len(read_timestamps(store)) == 5


def test_damage_in_the_middle_of_a_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file passes when it is opened; the damage lies in pages that are read later."""
    first, second = make_records(9000), make_records(100, NOON + HOUR)
    fill(tmp_path, [*first, *second])
    path = list_data_files(tmp_path)[0]
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size // 2)
        file.write(random.Random(7).randbytes(size // 3))
    with opened(tmp_path) as store:
        assert store.status().damaged == ()
        scan = store.records(*ALL)
        got = [next(scan)]
        got += scan
        assert got[-100:] == second
        intact = got[:-100]
        assert intact == first[: len(intact)]
        assert len(intact) < len(first)
        assert [damage.name for damage in store.status().damaged] == [path.name]
        assert read_timestamps(store) == [record.pair.timestamp for record in second]
        store.append(first[:10])
        assert list(store.records(*ALL)) == [*first[:10], *second]
    assert f"{path.name} is damaged" in caplog.text
    with opened(tmp_path) as store:  # it is remembered, although the file opens
        assert len(read_timestamps(store)) == 110
        assert [damage.name for damage in store.status().damaged] == [path.name]


def test_a_value_that_cannot_be_understood(tmp_path: Path) -> None:
    fill(tmp_path, [*make_records(5), *make_records(5, NOON + HOUR)])
    path = list_data_files(tmp_path)[0]
    connection = sqlite3.connect(path)
    connection.execute("UPDATE unnamed SET value = x'c1' WHERE rowid = 3")
    connection.commit()
    connection.close()
    with opened(tmp_path) as store:
        assert len(list(store.pairs(*ALL))) == 10
        assert list(store.records(*ALL))[-5:] == make_records(5, NOON + HOUR)
        assert [damage.name for damage in store.status().damaged] == [path.name]


# -- coming back -----------------------------------------------------------------------------------


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
    """It is noticed before anything is confirmed that would go into the old one."""
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


def test_a_damaged_file_that_is_taken_away_is_settled(tmp_path: Path) -> None:
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


def test_a_file_from_outside_begins_a_generation(tmp_path: Path) -> None:
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
    """A snapshot is taken, more comes in and is told, the snapshot is put back."""
    folder, saved = tmp_path / "store", tmp_path / "saved"
    fill(folder, make_records(5))
    shutil.copytree(folder, saved)
    with opened(folder) as store:
        store.append(make_records(5, NOON + HOUR))
        told = store.info()
    shutil.rmtree(folder)
    shutil.copytree(saved, folder)
    with opened(folder) as store:
        after = store.info()
        assert after.uuid == told.uuid
        assert after.generation > told.generation
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
        told = store.info()
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    for path in saved.iterdir():
        shutil.copy2(path, folder / path.name)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == inodes
    with opened(folder) as store:
        assert store.info().generation > told.generation
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
        store = SqliteStore(tmp_path / "store", clock=lambda now=now: now)  # type: ignore[misc]
        store.open(ALGORITHM)
        store.append(make_records(1))
        store.close()
        shutil.copytree(tmp_path / "store", tmp_path / f"copy-{index}")
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / f"copy-{index}", tmp_path / "store")
        store = SqliteStore(tmp_path / "store", clock=lambda now=now: now)  # type: ignore[misc]
        generations.append(store.open(ALGORITHM).generation)
        store.close()
    assert generations == [2_000_000_000_000, 2_000_000_000_001]


# -- the state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [overwrite, truncate, replace_with_text, remove])
def test_a_lost_state_makes_a_new_store_of_the_same_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    fill(tmp_path, make_records(20))
    with opened(tmp_path) as store:
        before = store.info()
    damage(tmp_path / "state.sqlite3")
    with opened(tmp_path) as store:
        assert store.info().uuid != before.uuid
        assert list(store.records(*ALL)) == make_records(20)
        aside = [told.name for told in store.status().damaged]
        assert len(aside) == (damage is not remove)
        assert all(name.startswith("state.sqlite3.damaged-") for name in aside)
        after = store.info()
    with opened(tmp_path) as store:
        assert store.info() == after


def test_a_state_whose_making_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite3").touch()
    with opened(tmp_path) as store:
        store.append(make_records(5))
        before = store.info()
    with opened(tmp_path) as store:
        assert store.info() == before
        assert store.status().damaged == ()


# -- the master's cursors --------------------------------------------------------------------------


def test_damage_sets_the_cursors_back(tmp_path: Path) -> None:
    """What is no longer represented here has to be asked for again."""
    hours = make_hours()
    fill(tmp_path / "store", [record for hour in hours for record in hour])
    with opened(tmp_path / "store") as store:
        lease = store.acquire_lease("a", NOON, 1000)
        states = {
            "before": SlaveState(NOON - HOUR, "u", 1, 5, {"a": 1}),
            "beyond": SlaveState(NOON + 2 * HOUR, "u", 1, 5, {"a": 1}),
            "new": SlaveState(),
        }
        for name, state in states.items():
            store.save_slave(lease, name, state)
        store.release_lease(lease)
    path = list_data_files(tmp_path / "store")[1]
    overwrite(path)
    start = int(path.name[:10]) * HOUR
    # A span before it, whatever the span is: so far reaches what the lost records represented.
    expected = {**states, "beyond": SlaveState(start - MAX_SPAN_MS, "u", 1, 5, {"a": 1})}
    for _ in range(2):
        with opened(tmp_path / "store") as store:
            assert store.slave_states() == expected
    with opened(tmp_path / "store") as store:  # once: it is not new any more
        lease = store.acquire_lease("a", NOON, 1000)
        store.save_slave(lease, "beyond", states["beyond"])
    with opened(tmp_path / "store") as store:
        assert store.slave_states() == states


def test_damage_takes_the_lease_from_a_running_sync(tmp_path: Path) -> None:
    """It has scanned the file already and would move its cursor over the hole."""
    fill(tmp_path, [*make_records(10), *make_records(10, NOON + HOUR)])
    path = list_data_files(tmp_path)[0]
    with opened(tmp_path) as store:
        lease = store.acquire_lease("a", NOON, 1000)
        store.save_slave(lease, "s", SlaveState(cursor=NOON))
        assert len(read_timestamps(store)) == 20
        path.unlink()
        assert len(read_timestamps(store)) == 10
        assert [damage.name for damage in store.status().damaged] == [path.name]
        with pytest.raises(LeaseLost):
            store.save_slave(lease, "s", SlaveState(cursor=NOON + HOUR))
        with pytest.raises(LeaseLost):
            store.save_records(lease, make_records(1))
        assert store.slave_states()["s"].cursor == NOON // HOUR * HOUR - MAX_SPAN_MS
        again = store.acquire_lease("a", NOON, 1000)
        store.save_slave(again, "s", SlaveState(cursor=NOON))


def test_the_log_tells_each_damage_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = damage_middle(tmp_path / "store", make_hours())
    with opened(tmp_path / "store") as store, caplog.at_level(logging.ERROR):
        path.unlink()
        for _ in range(5):
            read_timestamps(store)
            store.status()
    assert caplog.text.count(path.name) == 1
