"""A store whose disk hangs: no write ends until the disk responds again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.stores.sqlite_folders import list_data_files

_PATIENCE_S = 60


@contextmanager
def hung(folder: Path) -> Iterator[None]:
    """Lock every database of a store's folder from another connection."""
    with ExitStack() as stack:
        # the state too, so that no new file is made if the hour ends just now
        for path in [*list_data_files(folder), folder / "state.sqlite3"]:
            connection = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE_S)
            stack.callback(connection.close)
            connection.execute("BEGIN IMMEDIATE")
        yield
