"""Firestore for the contract suite: each place is a database of its own on the emulator."""

from __future__ import annotations

from pathlib import Path

from portable_core.adapters.firestore import FirestoreStore
from portable_core.ports import MasterStore
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator


class FirestorePlace:
    """The database stays on the emulator, which keeps it in memory and ends with the tests."""

    def __init__(self, folder: Path) -> None:
        use_emulator()
        self._database = name_database()

    def connect(self) -> MasterStore:
        return FirestoreStore(PROJECT, self._database, commit_timeout_ms=10_000)

    def close(self) -> None:
        pass
