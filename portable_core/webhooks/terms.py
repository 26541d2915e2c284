"""The terms under which an index lists a record, and those that a search requires.

A term is four bytes of a checksum: another value may have the same term, so a record that an index
lists is a candidate, which the search reads and compares.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from portable_core.records import Record
from portable_core.webhooks.names import Names

TERM_BYTES = 4

#: Changes with the terms of a record. The names of events and ids are part of it.
_FORMAT = "1"


def make_term(kind: str, value: str) -> bytes:
    text = f"{kind}\n{value}".encode("utf-8", "surrogatepass")
    return zlib.crc32(text).to_bytes(TERM_BYTES, "big")


SOURCE, EVENT, ID, KEY, SLAVE = "source", "event", "id", "key", "slave"

#: Records that a sender sent to this node, and those that were recovered from any slave.
DIRECT = make_term("direct", "")
RECOVERED = make_term("recovered", "")


class Terms:
    """The terms of records; ``version`` is equal for equal rules."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.version = zlib.crc32(f"{_FORMAT} {names.text}".encode("utf-8", "surrogatepass"))

    def list(self, record: Record) -> set[bytes]:
        """Return the terms of a record."""
        return set(self._find(record))

    def _find(self, record: Record) -> Iterator[bytes]:
        yield make_term(SOURCE, record.meta.source)
        event, ids = self._names.both(record)
        if event:
            yield make_term(EVENT, event)
        if record.meta.key:
            yield make_term(KEY, record.meta.key)
        for value in ids:
            yield make_term(ID, value)
        if record.recovery is None:
            yield DIRECT
        else:
            yield RECOVERED
            yield make_term(SLAVE, record.recovery.slave)
