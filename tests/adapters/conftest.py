"""Fixtures for stores in folders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from portable_core.adapters.sqlite import SqliteStore
from tests.support.stores.sqlite_folders import grow_old


@pytest.fixture(params=["new", "old"])
def age(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[SqliteStore], None]:
    """Return what leaves the folder of a store new in one case, and makes it old in the other."""

    def pass_time(store: SqliteStore) -> None:
        if request.param == "old":
            grow_old(store, monkeypatch)

    return pass_time
