"""Removing segments, and pages of the former layout, within a budget."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from portable_core.adapters.firestore.documents import (
    PARTS,
    RECORDS,
    delete_document,
    format_id,
)
from portable_core.adapters.firestore.former import name_former_contents
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.scans import is_segment, read_entries_of
from portable_core.adapters.firestore.segments import format_value_part

_DELETES = 500

#: A removal stops at the first document after this many commits or seconds, because a sender waits
#: for its response meanwhile.
REMOVE_COMMITS = 20
REMOVE_S = 1.0


class Remover:
    """Deletes what belongs to segments and pages, then these themselves, within a budget.

    A segment is deleted in the last commit of its parts and copies, so that the next removal finds
    those that an interruption left behind.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._database = reader.source.database
        self._deletes: list[Any] = []
        self._commits = 0
        self._since = time.monotonic()
        self.records = 0

    @property
    def exhausted(self) -> bool:
        """Whether the budget of this removal is used up."""
        return self._commits >= REMOVE_COMMITS or time.monotonic() - self._since >= REMOVE_S

    def remove(self, document: Any) -> None:
        """Delete a segment or a page; :meth:`finish` completes the last deletions."""
        for name in [*self._name_contents(document), document.name]:
            self._deletes.append(delete_document(name))
            if len(self._deletes) == _DELETES:
                self.finish()
        self.records += len(read_entries_of(document))

    def _name_contents(self, document: Any) -> Iterator[str]:
        entries = read_entries_of(document)
        if not is_segment(document):
            yield from name_former_contents(self._database, entries)
            return
        segment = document.name.rpartition("/")[2]
        for index, entry in enumerate(entries):
            if "data" in document.fields:
                yield self._database.name(RECORDS, format_id(entry.pair))
            for number in range(0 if entry.erased else entry.parts):
                yield self._database.name(PARTS, format_value_part(segment, index, number))

    def finish(self) -> None:
        if self._deletes:
            self._database.commit(self._deletes)
            self._reader.forget([write.delete for write in self._deletes])
            self._commits += 1
            self._deletes = []
