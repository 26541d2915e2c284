"""Times, epochs and ranges of hashes: the values that several ports use."""

from __future__ import annotations

from typing import NamedTuple

from portable_core.records import MAX_INTEGER, Integer

#: Integer milliseconds since the Unix epoch, UTC.
Milliseconds = Integer

#: The longest span (``SPAN_S``). A lost record may have represented records up to a span before it:
#: a store that loses records sets its cursors back to this long before the first one.
MAX_SPAN_MS = 3_600_000

#: The form of a store's UUID.
UUID_PATTERN = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

#: The form of the id of a stint.
STINT_PATTERN = r"[0-9a-f]{32}"


class StoreEpoch(NamedTuple):
    """The UUID of a store, and its generation (see :class:`StoreInfo`)."""

    store: str
    generation: int


class HashRange(NamedTuple):
    """The hashes from ``start`` on and before ``end``."""

    start: int
    end: int

    def __contains__(self, hash_: object) -> bool:
        return isinstance(hash_, int) and self.start <= hash_ < self.end


ALL_HASHES = HashRange(0, MAX_INTEGER + 1)
