"""The quarantine of a master. Each write has the fence of :mod:`.leases`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

from portable_core.adapters.firestore.batches import CommitBuilder, DocumentOptions
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    PARTS,
    count_parts,
    delete_document,
    format_part_id,
    format_time,
    split_value,
    write_document,
)
from portable_core.adapters.firestore.leases import commit_fenced, make_fence
from portable_core.adapters.firestore.parts import fetch_parts
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.errors import RecordRefused, StoreDamaged
from portable_core.ports import Lease, Quarantined, QuarantineEntry, QuarantineSize
from portable_core.records import Pair, pack_value, unpack_value

_QUARANTINE = "quarantine"
_FEW = 16  # documents in one request, where each may be large
_PAGE = 300  # documents without payloads in one request

#: The fields of a document but for the payload.
_ENTRY_FIELDS = ("key", "id", "slave", "at", "reason", "timestamp", "hash", "size")


def save_quarantine(database: Database, lease: Lease, items: Sequence[Quarantined]) -> None:
    """Save items. Raise ``LeaseLost``, or ``RecordRefused`` if no document can hold an item."""
    builder = CommitBuilder(database, DocumentOptions(), [make_fence(database, lease)])

    def plan() -> Iterator[list[Any]]:
        for item in items:
            try:
                parts, write = _encode_item(database, item)
            except (ValueError, OverflowError) as error:
                raise RecordRefused(
                    f"Firestore cannot hold the record {item.id!r} of the quarantine: {error}"
                ) from error
            yield from builder.add_parts(_name_value(write.update.name), parts)
            yield from builder.add([write])
        yield from builder.finish(fence_alone=not items)

    for writes in plan():
        commit_fenced(database, lease, writes)


def _encode_item(database: Database, item: Quarantined) -> tuple[list[bytes], Any]:
    """Return the parts, to be written first, and the ``Write`` of the document."""
    pair = item.record.pair
    header = (item.id, item.slave, item.at, item.reason, pair.timestamp, pair.hash)
    value = msgpack.packb((*header, pack_value(item.record)))
    digest = _digest(item.id)
    parts = split_value(value)
    small = len(parts) == 1
    write = write_document(
        database.name(_QUARANTINE, digest),
        {
            "key": format_time(item.at) + (item.id if len(item.id) <= 300 else digest),
            "id": item.id,
            "at": item.at,
            "hash": pair.hash,
            "timestamp": pair.timestamp,
            "size": len(value),
            "slave": item.slave,
            "reason": item.reason[:1000],
            "value": value if small else None,
            "parts": None if small else len(parts),
        },
    )
    return [] if small else parts, write


def _name_value(document: str) -> str:
    """Return the id under which a document's parts are named."""
    return "q" + document.rpartition("/")[2]


def read_quarantine(database: Database) -> Iterator[Quarantined]:
    for document in database.scan(RangeQuery(_QUARANTINE, "key"), _FEW):
        yield _decode_item(database, document)


def find_quarantined(database: Database, id_: str) -> Quarantined | None:
    name = database.name(_QUARANTINE, _digest(id_))
    documents, _ = database.get([name])
    return _decode_item(database, documents[name]) if documents else None


def list_quarantine(database: Database, before: str | None, limit: int) -> list[QuarantineEntry]:
    query = RangeQuery(_QUARANTINE, "key", None, before, descending=True, fields=_ENTRY_FIELDS)
    entries: list[QuarantineEntry] = []
    last: str | None = None
    while len(entries) < limit:
        page = min(limit - len(entries), _PAGE)
        documents = database.read_page(query, last, page)
        entries += [_decode_entry(database, document) for document in documents]
        if len(documents) < page:
            break
        last = documents[-1].fields["key"].string_value
    return entries


def measure_quarantine(database: Database) -> QuarantineSize:
    """Return the size; records that a release without ``size`` set aside count no bytes."""
    return QuarantineSize(database.count(_QUARANTINE), database.sum(_QUARANTINE, "size"))


def delete_quarantined(database: Database, lease: Lease, id_: str) -> bool:
    name = database.name(_QUARANTINE, _digest(id_))
    documents, _ = database.get([name])
    if not documents:
        commit_fenced(database, lease, [make_fence(database, lease)])
        return False
    parts = count_parts(documents[name])
    names = [name] + [
        database.name(PARTS, format_part_id(_name_value(name), number)) for number in range(parts)
    ]
    writes = [delete_document(name) for name in names]
    commit_fenced(database, lease, [make_fence(database, lease), *writes])
    return True


def _decode_item(database: Database, document: Any) -> Quarantined:
    value = document.fields["value"].bytes_value
    parts = count_parts(document)
    if parts:
        part_id = _name_value(document.name)
        body = fetch_parts(database, [format_part_id(part_id, number) for number in range(parts)])
        if body is None:
            raise StoreDamaged(f"a part of {document.name} is missing")
        value = body
    id_, slave, at, reason, timestamp, hash_, packed = msgpack.unpackb(value)
    record = unpack_value(Pair(timestamp, hash_), packed)
    return Quarantined(id_, slave, at, reason, record)


def _decode_entry(database: Database, document: Any) -> QuarantineEntry:
    fields = document.fields
    position = fields["key"].string_value
    if "size" not in fields:  # set aside by an older release
        documents, _ = database.get([document.name])
        item = _decode_item(database, documents.get(document.name, document))
        pair, size = item.record.pair, item.record.size
        return QuarantineEntry(position, item.id, item.slave, item.at, item.reason, pair, size)
    return QuarantineEntry(
        position,
        fields["id"].string_value,
        fields["slave"].string_value,
        fields["at"].integer_value,
        fields["reason"].string_value,
        Pair(fields["timestamp"].integer_value, fields["hash"].integer_value),
        fields["size"].integer_value,
    )


def _digest(id_: str) -> str:
    return hashlib.blake2b(id_.encode(), digest_size=16).hexdigest()
