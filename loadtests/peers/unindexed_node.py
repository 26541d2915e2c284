"""A node whose store has no index for searches. Run as ``webhook-sync`` is."""

from __future__ import annotations

from portable_core.adapters.sqlite import SqliteStore
from portable_core.cli.main import main


def _index_nothing(self: SqliteStore, *arguments: object) -> None:
    """Take the place of ``SqliteStore.index_by``: no thread indexes."""


if __name__ == "__main__":
    SqliteStore.index_by = _index_nothing  # type: ignore[assignment, method-assign]  # the one difference
    main()
