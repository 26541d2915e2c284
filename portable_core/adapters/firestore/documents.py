"""The document model: records, their parts, and pages of pairs, to and from Firestore documents.

``webhooks``
    One document per record. Its id begins with the hash, so that ids do not increase with time.
    ``payload`` holds the bytes as received; ``meta`` is JSON text; ``hash``, ``timestamp``,
    ``recovered_from`` and ``recovered_at`` are for people. A large record has ``parts`` instead of
    ``payload``: the number of documents in ``parts`` that hold the pieces of its packed value.
``parts``
    Pieces of large values, with ids ``<id>-<number>``. A piece has no meaning without the document
    that counts the pieces, so that document is written last.
``pages``
    One document per commit and time bucket: the pairs of the records in that commit. ``key`` is the
    first timestamp and a digest of all the pairs. It is the one indexed field of this store that
    increases with time, at the rate of commits. ``place`` is the page's place in the order of
    arrival (:mod:`.writers`). The id is the digest, so a repeated commit writes the same page. A
    pair exists for readers once a page contains it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.cloud.firestore_v1 import types

from portable_core.adapters.firestore.native import NotNative, fill_map
from portable_core.adapters.firestore.operations import (
    VALUE_LIMIT,
    measure_document,
    measure_value,
)
from portable_core.errors import StoreDamaged
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery, pack_value

RECORDS, PARTS, PAGES = "webhooks", "parts", "pages"

#: Milliseconds of one time bucket. All pairs of a page are in one bucket. So a bucket bounds the
#: pairs that a reader requests in excess, the pairs that it holds in memory, and the window that
#: retention keeps or removes as a whole.
BUCKET_MS = 10_000

#: A record larger than this is stored in parts of this many bytes: below a document's limit of
#: 1,048,576 bytes, with room for names and fields. Four parts fill one commit.
PART_BYTES = 960_000

_ENTRY = struct.Struct(">QQIH")

#: The fields of a document; those that are None are left out.
Fields = Mapping[str, bytes | str | int | None]

_Write = types.Write.pb()


class PageEntry(NamedTuple):
    """A pair in a page.

    ``size`` is the bytes of the record's payload and metadata. ``parts`` is the number of its
    parts, 0 if the record's document holds the whole record.
    """

    timestamp: Milliseconds
    hash: int
    size: int
    parts: int

    @property
    def pair(self) -> Pair:
        return Pair(self.timestamp, self.hash)


# -- names -----------------------------------------------------------------------------------------


def format_id(pair: Pair) -> str:
    """Return a record's id: hash, then timestamp, both in fixed-width hexadecimal."""
    return f"{pair.hash:014x}{pair.timestamp:014x}"


def format_part_id(id_: str, number: int) -> str:
    return f"{id_}-{number:04d}"


def format_time(timestamp: Milliseconds) -> str:
    """Return text that sorts by time, also for times just beyond those of records."""
    return f"{min(max(timestamp, 0), MAX_INTEGER + 1):014x}"


def floor_bucket(timestamp: Milliseconds) -> Milliseconds:
    """Return the start of the bucket that contains ``timestamp``."""
    return timestamp - timestamp % BUCKET_MS


# -- writes ----------------------------------------------------------------------------------------


def write_document(name: str, fields: Fields) -> Any:
    """Return a ``Write`` that sets the document to exactly these fields."""
    write = _Write()
    document = write.update
    document.name = name
    for key, value in fields.items():
        if isinstance(value, bytes):
            document.fields[key].bytes_value = value
        elif isinstance(value, str):
            document.fields[key].string_value = value
        elif value is not None:
            document.fields[key].integer_value = value
    return write


def delete_document(name: str) -> Any:
    write = _Write()
    write.delete = name
    return write


def set_expiry(write: Any, expires: Milliseconds | None) -> Any:
    """Add ``expires``, the time at which a TTL policy may remove the document."""
    if expires is not None:
        timestamp = write.update.fields["expires"].timestamp_value
        timestamp.seconds, rest = divmod(min(expires, _LAST_TIME), 1000)
        timestamp.nanos = rest * 1_000_000
    return write


def is_expired(document: Any, now_ns: int) -> bool:
    """Return whether a TTL policy may have begun to remove the document or its parts."""
    if "expires" not in document.fields:
        return False
    expires = document.fields["expires"].timestamp_value
    return int(expires.seconds) * 1_000_000_000 + int(expires.nanos) <= now_ns


#: The largest value of a timestamp message: the end of the year 9999.
_LAST_TIME = 253_402_300_799_000


def split_value(value: bytes) -> list[bytes]:
    return [value[start : start + PART_BYTES] for start in range(0, len(value), PART_BYTES)]


def encode_record(name: str, record: Record, native_data: bool) -> tuple[Any, list[bytes]]:
    """Return the ``Write`` of a record's document, and the parts to be written before it.

    Raise ``ValueError`` for a record that no document can hold.
    """
    if not all(0 <= number <= MAX_INTEGER for number in record.pair):
        raise ValueError("its pair is out of range")
    recovery = record.recovery
    meta = json.dumps(record.meta.to_mapping()) if record.meta else ""
    large = len(record.payload) + len(meta) > PART_BYTES
    parts = split_value(pack_value(record)) if large else []
    write = write_document(
        name,
        {
            "hash": record.pair.hash,
            "timestamp": record.pair.timestamp,
            "payload": None if large else record.payload,
            "parts": len(parts) or None,
            "meta": None if large else meta or None,
            "recovered_from": recovery.slave if recovery else None,
            "recovered_at": recovery.at if recovery else None,
        },
    )
    if native_data:
        _add_native(write.update, record.payload, large)
    return write, parts


def _add_native(document: Any, payload: bytes, large: bool) -> None:
    """Add ``data``, the payload as a map, or ``data_missing``, the reason for its absence."""
    try:
        if large:
            raise NotNative("the payload is too large")
        rest = measure_document(document)
        fill_map(payload, document.fields["data"])
        # Small values are larger in a map than in the payload: 8 bytes instead of the 2 of "1,".
        size = measure_value(document.fields["data"])
        if size > VALUE_LIMIT:
            raise NotNative("the payload is too large as a map")
        if rest + size > PART_BYTES + 50_000:
            raise NotNative("the payload is too large to be kept twice")
    except NotNative as error:
        _drop_native(document, str(error))


def _drop_native(document: Any, reason: str) -> None:
    if "data" in document.fields:
        del document.fields["data"]
    document.fields["data_missing"].string_value = reason


def drop_maps(writes: Iterable[Any], reason: str) -> bool:
    """Replace each ``data`` in these writes by the reason for its absence.

    Return whether any write had ``data``.
    """
    documents = [write.update for write in writes if "data" in write.update.fields]
    for document in documents:
        _drop_native(document, reason)
    return bool(documents)


# -- reading ---------------------------------------------------------------------------------------


def decode_record(document: Any) -> Record:
    """Return the record of a document without parts. Raise ``StoreDamaged``."""
    fields = document.fields
    try:
        recovery = None
        if "recovered_at" in fields:
            slave = fields["recovered_from"].string_value
            recovery = Recovery(slave, fields["recovered_at"].integer_value)
        if "payload" not in fields:
            raise ValueError("it has no payload")
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


def count_parts(document: Any) -> int:
    return int(document.fields["parts"].integer_value) if "parts" in document.fields else 0


# -- pages -----------------------------------------------------------------------------------------


def write_page(
    path: str, entries: Iterable[PageEntry], expires: Milliseconds | None, place: str
) -> Any:
    """Return the ``Write`` of a page with entries of one bucket; ``path`` is the collection's."""
    ordered = sorted(entries)
    pairs = b"".join(struct.pack(">QQ", entry.timestamp, entry.hash) for entry in ordered)
    digest = hashlib.blake2b(pairs, digest_size=16).hexdigest()
    write = write_document(
        f"{path}/{digest}",
        {
            "key": f"{format_time(ordered[0].timestamp)}-{digest}",
            "pairs": b"".join(_ENTRY.pack(*entry) for entry in ordered),
            "bytes": sum(entry.size for entry in ordered),
            "place": place,
        },
    )
    return set_expiry(write, expires)


def read_page_entries(document: Any) -> list[PageEntry]:
    """Return a page's entries in order. Raise ``StoreDamaged``."""
    packed = document.fields["pairs"].bytes_value
    if not packed or len(packed) % _ENTRY.size:
        raise StoreDamaged(f"the page {document.name} is damaged: {len(packed)} bytes")
    return [PageEntry._make(fields) for fields in _ENTRY.iter_unpack(packed)]


def group_by_bucket(entries: Sequence[PageEntry]) -> Iterator[list[PageEntry]]:
    buckets: dict[Milliseconds, list[PageEntry]] = {}
    for entry in entries:
        buckets.setdefault(floor_bucket(entry.timestamp), []).append(entry)
    return iter(buckets.values())
