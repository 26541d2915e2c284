"""A store of many files: what a start, a status and a new hour cost does not grow with its age."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from loadtests.aged_store import make_aged_store
from portable_core.adapters.sqlite import SqliteStore, folder
from portable_core.adapters.sqlite.reader import Reader
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_calls import counted
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    list_data_files,
    opened,
    read_file_rows,
    read_timestamps,
)

FILES = 3_000
LAST_HOUR = NOON // HOUR
#: Calls that a start or a request may make, whatever the number of files is.
FEW = 60


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aged") / "store"
    make_aged_store(path, FILES, LAST_HOUR)
    with opened(path) as store:
        assert store.status().records == FILES
    return path


def test_a_start_reads_no_file_that_was_closed(aged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as calls, opened(aged):
        assert calls["connects"] < FEW
        assert calls["lists"] < 5
        assert calls["stats"] < FILES + FEW
        assert calls["statements"] < FEW


def test_requests_look_at_no_closed_file(aged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as calls, opened(aged) as store:
        time.sleep(folder.REFRESH_INTERVAL_S)
        calls.clear()
        store.check()
        store.info()
        status = store.status()
        edges = store.first(), store.last(), store.mark("asked"), store.slave_states()
        assert calls["connects"] == 0
        assert calls["lists"] == 0
        assert calls["stats"] < FEW
    assert (status.records, status.files, status.unchecked) == (FILES, FILES, FILES)
    assert status.bytes == sum(path.stat().st_size for path in list_data_files(aged))
    first = (LAST_HOUR - FILES + 1) * HOUR
    assert (status.first, status.last) == edges[:2] == (first, LAST_HOUR * HOUR)


def test_memory_is_nearly_flat(aged: Path) -> None:
    """Some 130 bytes a file; an object and its row in the state were more than 1,000."""
    with opened(aged):
        pass  # everything is imported and cached
    tracemalloc.start()
    try:
        with opened(aged):
            size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < FILES * 200 + 500_000


def test_a_new_hour_saves_a_few_rows(aged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = LAST_HOUR * HOUR
    with counted(monkeypatch) as calls, opened(aged) as store:
        for hour in range(1, 4):
            calls.clear()
            store.append([make_record(last + hour * HOUR)])
            store.raise_mark("horizon", last + hour * HOUR)
            assert calls["statements"] < FEW
            assert calls["connects"] < 10
            assert calls["stats"] < FEW
        calls.clear()
        store.prune(last - (FILES - 2) * HOUR)
        store.prune_to_size(10**9)
        assert calls["statements"] < FEW
        assert calls["stats"] < FEW
        assert store.first() == last - (FILES - 2) * HOUR
        newest = [pair.timestamp for pair in store.latest(last + 2 * HOUR, 3)]
        assert newest == [last + HOUR, last, last - HOUR]
    with opened(aged) as store:
        assert store.status().files == FILES + 2
        assert store.status().damaged == ()


# -- the rows of an older version ------------------------------------------------------------------


def test_a_store_of_an_older_version_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_aged_store(tmp_path / "store", 1_500, LAST_HOUR, records=2)
    assert not any(row["stamp"] for row in read_file_rows(tmp_path / "store").values())
    with opened(tmp_path / "store") as store:
        before, pairs = store.info(), list(store.pairs(*ALL))
        assert len(pairs) == 3_000
        assert [pair.timestamp % HOUR for pair in pairs] == [0, 1] * 1_500
        assert store.status().damaged == ()
    rows = read_file_rows(tmp_path / "store")
    assert len(rows) == 1_500
    assert all(row["stamp"] for row in rows.values())
    with counted(monkeypatch) as calls, opened(tmp_path / "store") as store:
        assert calls["connects"] < FEW
        assert store.info() == before
        assert list(store.pairs(*ALL)) == pairs


def test_a_start_that_is_interrupted_continues_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start of this version on a store of 50,000 files needs some seconds."""
    make_aged_store(tmp_path / "store", 1_500, LAST_HOUR)
    read, left = Reader.read_summary, 1_200

    def read_some(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return read(*arguments, **options)

    monkeypatch.setattr(Reader, "read_summary", read_some)
    with pytest.raises(KeyboardInterrupt):
        SqliteStore(tmp_path / "store").open(ALGORITHM)
    with counted(monkeypatch) as calls, opened(tmp_path / "store") as store:
        assert calls["connects"] <= 500 + FEW
        assert len(read_timestamps(store)) == 1_500
        assert store.info().generation == 1
