"""Reading values that are divided among several documents."""

from __future__ import annotations

from collections.abc import Sequence

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import PARTS


def fetch_parts(database: Database, ids: Sequence[str]) -> bytes | None:
    """Return the value whose parts have these ids; None if a part is missing."""
    names = [database.name(PARTS, id_) for id_ in ids]
    documents, _ = database.get(names)
    if len(documents) < len(names):
        return None
    return b"".join(documents[name].fields["body"].bytes_value for name in names)
