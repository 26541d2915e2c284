"""Every test that uses ``place`` or ``store`` runs once for each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.ports import MasterStore
from tests.support.stores.stores import ALGORITHM, STORES, Place


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database."""
    place = STORES[request.param].make_place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def store(place: Place) -> Iterator[MasterStore]:
    """An open store on an empty database."""
    store = place.connect()
    store.open(ALGORITHM)
    yield store
    store.close()
