"""Damage and the store's state: its identity, a master's cursors and lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.errors import LeaseLost
from portable_core.ports import MAX_SPAN_MS, SlaveState
from tests.support.stores.samples import HOUR, NOON, make_records
from tests.support.stores.sqlite_damages import (
    DamageFile,
    make_hours,
    overwrite,
    remove,
    replace_with_text,
    truncate,
)
from tests.support.stores.sqlite_folders import ALL, fill, list_data_files, opened, read_timestamps


@pytest.mark.parametrize("damage", [overwrite, truncate, replace_with_text, remove])
def test_a_lost_state_becomes_a_new_store_of_the_same_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: DamageFile
) -> None:
    fill(tmp_path, make_records(20))
    with opened(tmp_path) as store:
        before = store.info()
    damage(tmp_path / "state.sqlite3")
    with opened(tmp_path) as store:
        assert store.info().uuid != before.uuid
        assert list(store.records(*ALL)) == make_records(20)
        aside = [damage.name for damage in store.status().damaged]
        assert len(aside) == (damage is not remove)
        assert all(name.startswith("state.sqlite3.damaged-") for name in aside)
        after = store.info()
    with opened(tmp_path) as store:
        assert store.info() == after


def test_a_state_whose_creation_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite3").touch()
    with opened(tmp_path) as store:
        store.append(make_records(5))
        before = store.info()
    with opened(tmp_path) as store:
        assert store.info() == before
        assert store.status().damaged == ()


# -- the master's cursors --------------------------------------------------------------------------


def test_damage_sets_the_cursors_back(tmp_path: Path) -> None:
    """Webhooks that are no longer represented must be requested again."""
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
    # The longest span before it: the lost records represented webhooks up to a span earlier.
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
    """The sync has scanned the file already and would move its cursor past the lost records."""
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
