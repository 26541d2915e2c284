"""The stores that the contract suite and the state machine run against.

A new store joins by one more entry in :data:`STORES`; every test of this folder then runs on it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ports import MasterStore
from tests.support.stores.firestore_databases import FirestorePlace

ALGORITHM = "crc32c"

#: How long a lease that is to expire within a test lasts, in milliseconds.
SHORT = 400


class Place(Protocol):
    """The place of one database, which is empty at first; stores connect to it one by one."""

    def connect(self) -> MasterStore:
        """A store on this database, not opened yet. The one before was closed."""
        ...

    def close(self) -> None:
        """Remove the database. Every store on it was closed."""
        ...


@dataclass(frozen=True)
class StoreUnderTest:
    """``make_place`` gets an empty folder of its own. ``examples`` and ``steps``: how many
    histories of how many steps the state machine plays, so that a slow store takes no longer."""

    make_place: Callable[[Path], Place]
    examples: int = 100
    steps: int = 50


class MemoryPlace:
    """The object is the database."""

    def __init__(self, folder: Path) -> None:
        self._store = MemoryStore()

    def connect(self) -> MasterStore:
        return self._store

    def close(self) -> None:
        pass


class SqlitePlace:
    """A folder. Its files are so small that many an hour has several."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "store"

    def connect(self) -> MasterStore:
        return SqliteStore(self._folder, file_bytes=60_000)

    def close(self) -> None:
        shutil.rmtree(self._folder)


STORES: Mapping[str, StoreUnderTest] = {
    "memory": StoreUnderTest(MemoryPlace),
    "sqlite": StoreUnderTest(SqlitePlace, examples=40),
    "firestore": StoreUnderTest(FirestorePlace, examples=10, steps=25),
}


def let_expire(store: MasterStore) -> None:
    """Wait until a ``SHORT`` lease has expired, if a server's time decides; else dates do."""
    if store.shared:
        time.sleep(SHORT / 1000 + 0.1)
