"""Checking a database for a node that is not started: nothing is written."""

from __future__ import annotations

from contextlib import suppress

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.identity import check_algorithm, read_identity
from portable_core.errors import SettingsError, StoreDamaged, StoreError


def check_database(project: str, name: str, algorithm: str) -> list[str]:
    """Return what would keep a node from opening this store, as lines."""
    database = Database(project, name)
    try:
        database.connect()
        with suppress(StoreDamaged):  # no node has used the database yet
            check_algorithm(database, read_identity(database), algorithm)
    except SettingsError as error:
        return [str(error)]
    except StoreError as error:
        return [f"STORE: {database.path} cannot be read: {error}"]
    finally:
        database.close()
    return []
