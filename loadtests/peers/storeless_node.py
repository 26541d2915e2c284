"""The ceiling of a container: all that a slave does with a webhook, but nothing is kept.

Run as ``webhook-sync`` is, with ``STORE=memory:``.
"""

from __future__ import annotations

from collections.abc import Sequence

from portable_core.adapters.memory_store import MemoryStore
from portable_core.cli.main import main
from portable_core.records import Record


def _forget(self: MemoryStore, records: Sequence[Record], deadline: float | None = None) -> None:
    """Take the place of ``MemoryStore.append``."""


if __name__ == "__main__":
    MemoryStore.append = _forget  # type: ignore[method-assign]  # the one difference
    main()
