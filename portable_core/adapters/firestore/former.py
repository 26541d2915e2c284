"""The layout of former releases, which is read and removed, and not written any more.

``webhooks``
    One document per record; the id is hash, then timestamp. ``payload`` holds the bytes as
    received; ``meta`` is JSON text. A large record has ``parts`` instead of ``payload``: the number
    of documents in ``parts`` that hold the pieces of its packed value, with ids ``<id>-<number>``.
``pages``
    One document per commit and time bucket: the pairs of the records in that commit. ``key`` is the
    first timestamp and a digest; ``place`` is the page's place in the order of arrival, which the
    first releases did not have.

A pair that a segment contains is read from there: its document in ``webhooks`` may be a copy for
queries, without the payload.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PARTS,
    RECORDS,
    count_parts,
    format_id,
    format_part_id,
    is_expired,
)
from portable_core.adapters.firestore.parts import fetch_parts
from portable_core.adapters.firestore.segments import Entry
from portable_core.errors import StoreDamaged
from portable_core.records import Meta, Pair, Record, Recovery, unpack_value

PAGES = "pages"

_ENTRY = struct.Struct(">QQIH")


def read_page_entries(document: Any) -> list[Entry]:
    """Return a page's entries in order. Raise ``StoreDamaged``."""
    packed = document.fields["pairs"].bytes_value
    if not packed or len(packed) % _ENTRY.size:
        raise StoreDamaged(f"the page {document.name} is damaged: {len(packed)} bytes")
    return [
        Entry(timestamp, hash_, True, document.name, size, parts)
        for timestamp, hash_, size, parts in _ENTRY.iter_unpack(packed)
    ]


def fetch_former(database: Database, pairs: Sequence[Pair]) -> Iterator[Record]:
    """Return the records of these pairs, in their order; skip missing ones."""
    names = {pair: database.name(RECORDS, format_id(pair)) for pair in pairs}
    documents, _ = database.get(list(names.values()))
    for pair, name in names.items():
        document = documents.pop(name, None)
        record = None if document is None else _assemble_record(database, pair, document)
        if record is not None:
            yield record


def _assemble_record(database: Database, pair: Pair, document: Any) -> Record | None:
    """Return the record of a document and its parts.

    Return None if retention or a TTL policy is removing the record, or for a copy for queries.
    """
    parts = count_parts(document)
    if not parts:
        return _decode_record(document) if "payload" in document.fields else None
    id_ = format_id(pair)
    value = fetch_parts(database, [format_part_id(id_, number) for number in range(parts)])
    if value is not None:
        return unpack_value(pair, value)
    documents, read_at = database.get([document.name])
    # A TTL policy removes documents in any order, within a day.
    if documents and not is_expired(documents[document.name], read_at):
        raise StoreDamaged(f"a part of {document.name} is missing")
    return None


def _decode_record(document: Any) -> Record:
    fields = document.fields
    try:
        recovery = None
        if "recovered_at" in fields:
            slave = fields["recovered_from"].string_value
            recovery = Recovery(slave, fields["recovered_at"].integer_value)
        return Record(
            Pair(fields["timestamp"].integer_value, fields["hash"].integer_value),
            fields["payload"].bytes_value,
            Meta.from_mapping(json.loads(fields["meta"].string_value))
            if "meta" in fields
            else Meta(),
            recovery,
        )
    except ValueError as error:
        raise StoreDamaged(f"the document {document.name} is damaged: {error}") from error


def name_former_contents(database: Database, entries: Iterable[Entry]) -> Iterator[str]:
    """Return the names of the documents of a page's records."""
    for entry in entries:
        id_ = format_id(entry.pair)
        yield database.name(RECORDS, id_)
        for number in range(entry.parts):
            yield database.name(PARTS, format_part_id(id_, number))
