"""After a failed sync no commit goes into the same file: it might stand behind a hole."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import which

import pytest

from portable_core.adapters.sqlite import SqliteStore
from tests.support.missing import give_up
from tests.support.stores.samples import NOON, make_records
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    list_data_files,
    opened,
    read_timestamps,
)
from tests.support.stores.sync_faults import FIRST, LATER, compile_library, run_scenario


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if which("cc") is None:
        give_up("needs a C compiler")
    return compile_library(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("scenario", ["commit", "late"])
def test_a_file_whose_sync_failed_is_given_up(tmp_path: Path, library: Path, scenario: str) -> None:
    folder = tmp_path / "store"
    result = run_scenario(scenario, folder, library)
    first, later = ([record.pair.timestamp for record in batch] for batch in (FIRST, LATER))
    name, other = (path.name for path in list_data_files(folder))
    assert other == name.replace(".0.", ".1.")
    assert result["sizes"][f"{name}-wal"] == result["before"][f"{name}-wal"]
    assert result["sizes"][name] == result["before"][name]
    assert result["visible"] == first  # a master must not rely on what may disappear
    assert result["after"] == [*first, *later]
    for _ in range(2):  # the next processes go on like that
        with opened(folder) as store:
            assert read_timestamps(store) == [*first, *later]
            assert store.status().damaged == ()
            assert store.info().generation == 1
            store.append(make_records(1, NOON + 5000))
            later.append(NOON + 5000)
            later = sorted(set(later))
    assert len(list_data_files(folder)) == 2


def test_a_state_whose_sync_failed_is_given_up(tmp_path: Path, library: Path) -> None:
    folder = tmp_path / "store"
    result = run_scenario("state", folder, library)
    for refused in ("again", "new_hour", "check"):
        assert "state.sqlite3" in result[refused]
        assert "restart" in result[refused]
    assert result["mark"] == 1
    with opened(folder) as store:
        first, later = ([record.pair.timestamp for record in batch] for batch in (FIRST, LATER))
        assert read_timestamps(store) == [*first, *later]
        assert store.raise_mark("asked", 4) == 4
        assert store.status().damaged == ()


# -- folders ---------------------------------------------------------------------------------------


def test_every_folder_around_a_new_one_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut may remove the whole store although its files were synced."""
    synced: list[Path] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store = SqliteStore(tmp_path / "a" / "b" / "store")
    store.open(ALGORITHM)
    store.append(make_records(1))
    store.close()
    made = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert [path for path in synced if path in made] == made
    assert synced.index(tmp_path / "a" / "b") < synced.index(tmp_path / "a" / "b" / "store")
