"""What the tests of the SQLite store do again and again with its folders."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.sqlite import SqliteStore, files
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.stores.samples import make_records

ALGORITHM = "crc32c"
ALL = (0, MAX_INTEGER + 1)


@contextmanager
def opened(folder: Path, algorithm: str = ALGORITHM) -> Iterator[SqliteStore]:
    store = SqliteStore(folder)
    store.open(algorithm)
    try:
        yield store
    finally:
        store.close()


def grow_old(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store that has the record of ``make_records(1)`` trust the times of its folder.

    It looks at its open files before an append unless those times show that no file was created,
    renamed or removed, and recent times do not show that.
    """
    tick_s = 0.02
    monkeypatch.setattr(files, "TICK_NS", int(tick_s * 1e9))
    time.sleep(3 * tick_s)
    store.append(make_records(1))  # now it looks at its files


def fill(folder: Path, records: list[Record]) -> None:
    """Make a store that holds the records, and close it."""
    with opened(folder) as store:
        store.append(records)


def list_data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.sqlite3") if path.name[0].isdigit())


def read_timestamps(store: SqliteStore) -> list[int]:
    return [pair.timestamp for pair in store.pairs(*ALL)]


def list_pairs(records: list[Record]) -> list[Pair]:
    return [record.pair for record in records]


def read_file_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the state has saved of each data file."""
    connection = sqlite3.connect(folder / "state.sqlite3")
    rows = connection.execute("SELECT key, value FROM state WHERE key GLOB 'file:*'").fetchall()
    connection.close()
    return {key.removeprefix("file:"): json.loads(value) for key, value in rows}


def wait_until_checked(store: SqliteStore) -> None:
    """Wait until the store has read every closed file in the background."""
    until = time.monotonic() + 60
    while store.status().unchecked:
        assert time.monotonic() < until
        time.sleep(0.05)
