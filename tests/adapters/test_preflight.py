"""The checks of ``serve --check`` by kind of store; ``e2e/test_serve_check.py`` has the command."""

from __future__ import annotations

import sys

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.identity import read_identity
from portable_core.errors import StoreDamaged
from portable_core.preflight import _STORE_CHECKS, check_node
from portable_core.store_kinds import STORE_KINDS
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator

ENV = {"SYNC_TOKENS": "a-token"}
HOST = "127.0.0.1"


def test_every_kind_of_store_has_a_check() -> None:
    assert set(_STORE_CHECKS) == set(STORE_KINDS)


def test_a_firestore_database_is_read_and_not_written() -> None:
    use_emulator()
    name = name_database()
    env = {**ENV, "STORE": f"firestore:{PROJECT}/{name}"}
    assert check_node("master", env, HOST) == ([], [])
    database = Database(PROJECT, name)
    database.connect()
    with pytest.raises(StoreDamaged):
        read_identity(database)
    database.close()

    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000)
    store.open("crc32c")
    store.close()
    assert check_node("master", env, HOST) == ([], [])
    (fault,) = check_node("master", {**env, "HASH": "blake2b", "HASH_KEY": "k"}, HOST).faults
    assert fault.startswith("HASH: the store ")


def test_every_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("google.cloud.firestore_v1", "google.auth"):
        monkeypatch.setitem(sys.modules, name, None)
    env = {"SYNC_AUTH": "oidc", "OIDC_AUDIENCE": "a", "OIDC_ACCOUNTS": "b@example"}
    faults = check_node("slave", {**env, "STORE": "firestore:p/d"}, HOST).faults
    assert [fault.partition(":")[0] for fault in faults] == ["STORE", "SYNC_AUTH"]


def test_an_open_node_is_a_warning() -> None:
    faults, warnings = check_node("slave", {"SYNC_AUTH": "none", "STORE": "memory:"}, HOST)
    assert (faults, len(warnings)) == ([], 1)
    assert warnings[0].startswith("SYNC_AUTH=none: ")
