"""A damaged file costs its own records alone, and the store reports its name."""

from __future__ import annotations

import logging
import random
import sqlite3
from pathlib import Path

import pytest

from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_damages import (
    DAMAGES,
    DamageFile,
    damage_middle,
    empty,
    make_hours,
    overwrite,
    replace_with_text,
    truncate,
)
from tests.support.stores.sqlite_folders import (
    ALL,
    fill,
    list_data_files,
    list_pairs,
    opened,
    read_timestamps,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_rest_is_served_and_the_file_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: DamageFile
) -> None:
    folder, hours = tmp_path / "store", make_hours()
    path = damage_middle(folder, hours)
    damage(path)
    with opened(folder) as store:
        rest = [*hours[0], *hours[2]]
        assert list(store.pairs(*ALL)) == list_pairs(rest)
        assert list(store.records(*ALL)) == rest
        assert list(store.fetch(list_pairs([hours[0][3], hours[1][3], hours[2][3]]))) == [
            hours[0][3],
            hours[2][3],
        ]
        assert store.latest(NOON + 2 * HOUR, 100) == list_pairs(hours[0])[::-1]
        status = store.status()
        (damaged,) = status.damaged
        assert damaged.name == path.name
        assert damaged.reason
        assert damaged.start is not None
        assert damaged.end is not None
        assert damaged.start <= NOON + HOUR < damaged.end
        assert status.records == 100
    assert f"{path.name} is damaged" in caplog.text


@pytest.mark.parametrize("damage", [overwrite, truncate, empty, replace_with_text])
def test_new_records_of_the_hour_go_into_another_file(tmp_path: Path, damage: DamageFile) -> None:
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
    with opened(tmp_path) as store:  # the damage is saved, although the file opens
        assert len(read_timestamps(store)) == 110
        assert [damage.name for damage in store.status().damaged] == [path.name]


def test_an_invalid_value(tmp_path: Path) -> None:
    fill(tmp_path, [*make_records(5), *make_records(5, NOON + HOUR)])
    path = list_data_files(tmp_path)[0]
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE unnamed SET value = x'c1' WHERE rowid = (SELECT min(rowid) + 2 FROM unnamed)"
    )
    connection.commit()
    connection.close()
    with opened(tmp_path) as store:
        assert len(list(store.pairs(*ALL))) == 10
        assert list(store.records(*ALL))[-5:] == make_records(5, NOON + HOUR)
        assert [damage.name for damage in store.status().damaged] == [path.name]


def test_each_damage_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = damage_middle(tmp_path / "store", make_hours())
    with opened(tmp_path / "store") as store, caplog.at_level(logging.ERROR):
        path.unlink()
        for _ in range(5):
            read_timestamps(store)
            store.status()
    assert caplog.text.count(path.name) == 1
