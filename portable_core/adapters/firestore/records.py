"""Records from Firestore: by identity, in order, and removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PARTS,
    RECORDS,
    PageEntry,
    count_parts,
    decode_record,
    delete_document,
    format_id,
    format_part_id,
    is_expired,
    read_page_entries,
)
from portable_core.errors import StoreDamaged
from portable_core.records import Pair, Record, unpack_value

#: What :func:`read_records` holds at a time.
_READ_RECORDS = 256
_READ_BYTES = 8 * 2**20

_DELETES = 500

#: Removing stops at the first page behind so many commits or seconds: it happens while a sender
#: waits for an answer.
REMOVE_COMMITS = 20
REMOVE_S = 1.0


def fetch_records(database: Database, pairs: Sequence[Pair]) -> Iterator[Record]:
    """The records of these pairs, in their order, without those that are not there.

    Memory holds all their documents, at most 1 MiB each, and of split payloads the parts of one.
    """
    names = {pair: database.name(RECORDS, format_id(pair)) for pair in pairs}
    documents, _ = database.get(list(names.values()))
    for pair, name in names.items():
        document = documents.pop(name, None)
        record = None if document is None else _assemble_record(database, pair, document)
        if record is not None:
            yield record


def _assemble_record(database: Database, pair: Pair, document: Any) -> Record | None:
    """The record of a document, with its parts; None if it is being removed at this moment, by
    retention or by a TTL policy."""
    parts = count_parts(document)
    if not parts:
        return decode_record(document)
    value = fetch_parts(database, format_id(pair), parts)
    if value is not None:
        return unpack_value(pair, value)
    documents, read_at = database.get([document.name])
    # A policy removes in any order, within a day.
    if documents and not is_expired(documents[document.name], read_at):
        raise StoreDamaged(f"a part of {document.name} is missing")
    return None


def fetch_parts(database: Database, id_: str, count: int) -> bytes | None:
    """A value that was split into so many parts; None if one is missing."""
    names = [database.name(PARTS, format_part_id(id_, number)) for number in range(count)]
    documents, _ = database.get(names)
    if len(documents) < count:
        return None
    return b"".join(documents[name].fields["body"].bytes_value for name in names)


def read_records(database: Database, entries: Iterable[PageEntry]) -> Iterator[Record]:
    """The records of entries, in their order; those that were removed meanwhile are left out."""
    waiting: list[Pair] = []
    size = 0
    for entry in entries:
        if waiting and (len(waiting) >= _READ_RECORDS or size + entry.size > _READ_BYTES):
            yield from fetch_records(database, waiting)
            waiting, size = [], 0
        waiting.append(entry.pair)
        size += entry.size
    yield from fetch_records(database, waiting)


class PageRemover:
    """Deletes the records of pages, then the pages, within a budget.

    A page goes in the last commit of its records, so that what an interruption leaves behind is
    found again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._deletes: list[Any] = []
        self._commits = 0
        self._since = time.monotonic()
        self.records = 0

    @property
    def exhausted(self) -> bool:
        """Whether the rest is to be left for another time: somebody waits for this one."""
        return self._commits >= REMOVE_COMMITS or time.monotonic() - self._since >= REMOVE_S

    def remove(self, page: Any) -> None:
        """To be followed by others, and :meth:`finish`."""
        entries = read_page_entries(page)
        for name in [*_name_contents(self._database, entries), page.name]:
            self._deletes.append(delete_document(name))
            if len(self._deletes) == _DELETES:
                self.finish()
        self.records += len(entries)

    def finish(self) -> None:
        if self._deletes:
            self._database.commit(self._deletes)
            self._commits += 1
            self._deletes = []


def _name_contents(database: Database, entries: Iterable[PageEntry]) -> Iterator[str]:
    for entry in entries:
        id_ = format_id(entry.pair)
        yield database.name(RECORDS, id_)
        for number in range(entry.parts):
            yield database.name(PARTS, format_part_id(id_, number))
