"""What the tests of the SQLite store do again and again with its folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.adapters.sqlite import SqliteStore
from portable_core.records import MAX_INTEGER, Pair, Record

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
