"""A Firestore protocol server for tests, and databases on it.

The server in ``FIRESTORE_EMULATOR_HOST`` is used if that is set. Otherwise the npm package
``@firestore-emulator/server`` is started once a test run; it is installed by
``npm ci --prefix tests/support/emulator``. Where there is none, tests are skipped, except in CI,
where that is a failure.
"""

from __future__ import annotations

import atexit
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.demo.emulator import FirestoreEmulator
from portable_core.errors import WebhookSyncError
from tests.support.missing import give_up

PROJECT = "webhook-sync-test"


@cache
def use_emulator() -> str:
    """``host:port`` of a server, which ``FIRESTORE_EMULATOR_HOST`` names from now on."""
    emulator = FirestoreEmulator()
    try:
        host = emulator.start()
    except WebhookSyncError as error:
        give_up(f"no Firestore emulator: {error}")
    atexit.register(emulator.stop)
    return host


def name_database() -> str:
    """The name of an empty database: emulators make one when it is first used."""
    return f"test-{uuid.uuid4().hex[:20]}"


@contextmanager
def opened_store() -> Iterator[FirestoreStore]:
    """A store on an empty database, as a node would have it."""
    use_emulator()
    store = FirestoreStore(PROJECT, name_database(), commit_timeout_ms=10_000)
    store.open("crc32c")
    yield store
    store.close()


@contextmanager
def opened_database() -> Iterator[Database]:
    """An empty database, to look into past a store."""
    use_emulator()
    database = Database(PROJECT, name_database())
    database.connect()
    yield database
    database.close()


def connect_store(database: Database, *, native_data: bool = False) -> FirestoreStore:
    """Open a store of a node of its own on the database."""
    store = FirestoreStore(
        PROJECT,
        database.path.rpartition("/")[2],
        commit_timeout_ms=10_000,
        native_data=native_data,
    )
    store.open("crc32c")
    return store
