"""Reading records from Firestore, by pair and in order, and removing them."""

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

#: The most records and bytes that :func:`read_records` holds at a time.
_READ_RECORDS = 256
_READ_BYTES = 8 * 2**20

_DELETES = 500

#: A removal stops at the first page after this many commits or seconds, because a sender waits for
#: its response meanwhile.
REMOVE_COMMITS = 20
REMOVE_S = 1.0


def fetch_records(database: Database, pairs: Sequence[Pair]) -> Iterator[Record]:
    """Return the records of these pairs, in their order; skip missing ones.

    Memory holds all their documents, at most 1 MiB each, and the parts of one split record.
    """
    names = {pair: database.name(RECORDS, format_id(pair)) for pair in pairs}
    documents, _ = database.get(list(names.values()))
    for pair, name in names.items():
        document = documents.pop(name, None)
        record = None if document is None else _assemble_record(database, pair, document)
        if record is not None:
            yield record


def _assemble_record(database: Database, pair: Pair, document: Any) -> Record | None:
    """Return the record of a document and its parts.

    Return None if retention or a TTL policy is removing the record.
    """
    parts = count_parts(document)
    if not parts:
        return decode_record(document)
    value = fetch_parts(database, format_id(pair), parts)
    if value is not None:
        return unpack_value(pair, value)
    documents, read_at = database.get([document.name])
    # A TTL policy removes documents in any order, within a day.
    if documents and not is_expired(documents[document.name], read_at):
        raise StoreDamaged(f"a part of {document.name} is missing")
    return None


def fetch_parts(database: Database, id_: str, count: int) -> bytes | None:
    """Return a value that was split into ``count`` parts; None if a part is missing."""
    names = [database.name(PARTS, format_part_id(id_, number)) for number in range(count)]
    documents, _ = database.get(names)
    if len(documents) < count:
        return None
    return b"".join(documents[name].fields["body"].bytes_value for name in names)


def read_records(database: Database, entries: Iterable[PageEntry]) -> Iterator[Record]:
    """Return the records of the entries, in their order; skip records removed meanwhile."""
    batch: list[Pair] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) >= _READ_RECORDS or size + entry.size > _READ_BYTES):
            yield from fetch_records(database, batch)
            batch, size = [], 0
        batch.append(entry.pair)
        size += entry.size
    yield from fetch_records(database, batch)


class PageRemover:
    """Deletes the records of pages, then the pages, within a budget.

    A page is deleted in the last commit of its records, so that the next removal finds the records
    that an interruption left behind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._deletes: list[Any] = []
        self._commits = 0
        self._since = time.monotonic()
        self.records = 0

    @property
    def exhausted(self) -> bool:
        """Whether the budget of this removal is used up."""
        return self._commits >= REMOVE_COMMITS or time.monotonic() - self._since >= REMOVE_S

    def remove(self, page: Any) -> None:
        """Delete a page and its records; :meth:`finish` completes the last deletions."""
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
