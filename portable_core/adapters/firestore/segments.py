"""Segments: the documents that hold records, one for each commit and time bucket.

``segments``
    - ``pairs``: an entry of 22 bytes for each record, in order: timestamp, hash, bytes of payload
      and metadata, number of parts. A query that selects this field reads no payload.
    - ``records``: the values of the records in the same order, compressed together. The value of a
      large record is empty.
    - ``key``: the first timestamp and a digest of all pairs. It is the one indexed field of this
      store that increases with time, at the rate of commits.
    - ``place``: the segment's place in the order of arrival (:mod:`.writers`).
    - ``bytes``: the sum of the sizes in ``pairs``.
    - ``data``: 1 if each record has a document in ``webhooks`` as well (:mod:`.data_copies`).

    The id is the digest, so a repeated commit writes the same segment. A pair exists for readers
    once a segment contains it. An imported segment has ``i`` before the digest, so that it cannot
    replace a segment with another place.
``parts``
    Pieces of the compressed value of a large record, with ids
    ``<segment>-<number of the record>-<number of the piece>``. A piece has no meaning without its
    segment, which is written last.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import msgpack

from portable_core.adapters.firestore.documents import (
    PART_BYTES,
    format_part_id,
    format_time,
    set_expiry,
    split_value,
    write_document,
)
from portable_core.adapters.firestore.writers import format_imported_place
from portable_core.errors import StoreDamaged
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Pair, Record, pack_value
from portable_core.zstd import compress, decompress

#: The most bytes of a segment: Firestore's limit of 1,048,576 with room for names.
SEGMENT_BYTES = 1_000_000

#: The most bytes of the values of a segment before compression, and its most records. They bound
#: the memory of a reader.
VALUES_BYTES = 8 * 2**20
SEGMENT_RECORDS = 8192

#: The most bytes that a reader decompresses.
_READ_BYTES = 2 * VALUES_BYTES

#: The fields of a segment that a scan reads, and those that its removal needs.
PAIR_FIELDS = ("key", "pairs")
REMOVAL_FIELDS = ("key", "pairs", "bytes", "data")

_ENTRY = struct.Struct(">QQIH")
_PAIR = struct.Struct(">QQ")
_OVERHEAD = 400  # bytes of the other fields

#: Stands for the number of parts of a record that was erased.
_ERASED = 2**16 - 1

_LARGEST_SIZE = 2**32 - 1


class Entry(NamedTuple):
    """A record in a segment, or in a page of the former layout.

    ``former``: whether it is in a page. ``document``: the name of the segment or page. ``size``:
    bytes of payload and metadata. ``parts``: the number of its parts, 0 if it has none. Entries
    sort by their pairs.
    """

    timestamp: Milliseconds
    hash: int
    former: bool
    document: str
    size: int
    parts: int

    @property
    def pair(self) -> Pair:
        return Pair(self.timestamp, self.hash)

    @property
    def erased(self) -> bool:
        """Whether an operator has deleted the webhook."""
        return self.parts == _ERASED


# -- writing ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A record to be written: its packed value, and the write of its copy for queries, if any."""

    pair: Pair
    size: int
    value: bytes
    copy: Any = None

    @property
    def is_large(self) -> bool:
        """Whether the value is stored in parts."""
        return len(self.value) > PART_BYTES

    @classmethod
    def of(cls, record: Record, copy: Any = None) -> Item:
        """Pack a record. Raise ``ValueError`` for one that no document can hold."""
        if not all(0 <= number <= MAX_INTEGER for number in record.pair):
            raise ValueError("its pair is out of range")
        if record.size > _LARGEST_SIZE:
            raise ValueError("it is too large")
        return cls(record.pair, record.size, pack_value(record), copy)


@dataclass(frozen=True, slots=True)
class Draft:
    """A segment to be written: the parts, which come first, and its other documents."""

    parts: list[Any]
    writes: list[Any]


def draft_segments(
    root: str, items: Sequence[Item], expires: Milliseconds | None, *, imported: bool = False
) -> Iterator[Draft]:
    """Return the segments of items in order, all of one bucket.

    Only those that are ``imported`` have their places.

    ``root`` is the path of the database's documents. Items that do not fit into one document are
    divided among several.
    """
    values = [b"" if item.is_large else item.value for item in items]
    body = compress(msgpack.packb(values))
    size = len(body) + _ENTRY.size * len(items)
    if len(items) > 1 and size > SEGMENT_BYTES - _OVERHEAD:
        count = min(math.ceil(1.05 * size / SEGMENT_BYTES), len(items))
        borders = [len(items) * number // count for number in range(count + 1)]
        for start, end in pairwise(borders):
            yield from draft_segments(root, items[start:end], expires, imported=imported)
        return
    digest = _digest_pairs([item.pair for item in items])
    first = items[0].pair.timestamp
    place = format_imported_place(first, digest) if imported else None
    id_ = f"i{digest}" if imported else digest
    parts: list[Any] = []
    entries: list[bytes] = []
    for index, (item, value) in enumerate(zip(items, values, strict=True)):
        pieces = [] if value else split_value(compress(item.value))
        for number, piece in enumerate(pieces):
            name = f"{root}/parts/{format_value_part(id_, index, number)}"
            parts.append(set_expiry(write_document(name, {"body": piece}), expires))
        entries.append(_ENTRY.pack(*item.pair, item.size, len(pieces)))
    copies = [set_expiry(item.copy, expires) for item in items if item.copy is not None]
    write = write_document(
        f"{root}/segments/{id_}",
        {
            "key": f"{format_time(first)}-{id_}",
            "pairs": b"".join(entries),
            "records": body,
            "bytes": sum(item.size for item in items),
            "data": 1 if copies else None,
            "place": place,
        },
    )
    yield Draft(parts, [*copies, set_expiry(write, expires)])


def set_place(draft: Draft, place: str) -> None:
    """Give a drafted segment its place in the order of arrival."""
    draft.writes[-1].update.fields["place"].string_value = place


def _digest_pairs(pairs: Sequence[Pair]) -> str:
    packed = b"".join(_PAIR.pack(*pair) for pair in pairs)
    return hashlib.blake2b(packed, digest_size=16).hexdigest()


def format_value_part(segment: str, index: int, number: int) -> str:
    """Return the id of one part of the value of a segment's record."""
    return format_part_id(f"{segment}-{index:04d}", number)


# -- reading ---------------------------------------------------------------------------------------


def read_segment_entries(document: Any) -> list[Entry]:
    """Return a segment's entries in order. Raise ``StoreDamaged``."""
    name = document.name
    return [
        Entry(timestamp, hash_, False, name, size, parts)
        for timestamp, hash_, size, parts in _ENTRY.iter_unpack(read_packed(document))
    ]


def read_packed(document: Any) -> bytes:
    """Return the packed entries of a segment. Raise ``StoreDamaged``."""
    packed: bytes = document.fields["pairs"].bytes_value
    if not packed or len(packed) % _ENTRY.size:
        raise StoreDamaged(f"the segment {document.name} is damaged: {len(packed)} bytes of pairs")
    return packed


def read_range(packed: bytes) -> tuple[Milliseconds, Milliseconds]:
    """Return the first and the last timestamp of packed entries."""
    last = len(packed) - _ENTRY.size
    return int.from_bytes(packed[:8], "big"), int.from_bytes(packed[last : last + 8], "big")


def find_in_packed(packed: bytes, pair: Pair) -> int | None:
    """Return the number of a pair among packed entries, None if it is not one of them."""
    wanted = _PAIR.pack(*pair)
    at = packed.find(wanted)
    while at >= 0 and at % _ENTRY.size:
        at = packed.find(wanted, at + 1)
    return None if at < 0 else at // _ENTRY.size


def read_values(document: Any) -> list[bytes]:
    """Return the values of a segment's records, in order. Raise ``StoreDamaged``."""
    try:
        values = msgpack.unpackb(decompress(document.fields["records"].bytes_value, _READ_BYTES))
        if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
            raise ValueError("the values of the records must be binary")
    except (ValueError, msgpack.UnpackException) as error:
        raise StoreDamaged(f"the segment {document.name} is damaged: {error}") from error
    if len(values) != len(document.fields["pairs"].bytes_value) // _ENTRY.size:
        raise StoreDamaged(f"the segment {document.name} is damaged: {len(values)} values")
    return values


def erase_in_segment(document: Any, index: int, at: Milliseconds) -> Any:
    """Return the ``Write`` of a segment whose record of this number was erased.

    The pair, the places of the others and their order stay. The commit is rejected if the segment
    was changed since it was read.
    """
    entries = read_segment_entries(document)
    values = read_values(document)
    entry = entries[index]
    values[index] = pack_value(Record(entry.pair, b"", erased=at))
    entries[index] = entry._replace(size=0, parts=_ERASED)
    write = write_document(document.name, {})
    fields = write.update.fields
    for name in document.fields:
        fields[name].CopyFrom(document.fields[name])
    fields["records"].bytes_value = compress(msgpack.packb(values))
    fields["pairs"].bytes_value = b"".join(
        _ENTRY.pack(*each.pair, each.size, each.parts) for each in entries
    )
    fields["bytes"].integer_value = sum(each.size for each in entries)
    write.current_document.update_time.CopyFrom(document.update_time)
    return write


def join_value(document: Any, entry: Entry, pieces: bytes) -> bytes:
    """Return the value of a large record from its joined parts. Raise ``StoreDamaged``."""
    try:
        return decompress(pieces, 4 * entry.size + PART_BYTES)
    except ValueError as error:
        raise StoreDamaged(f"a part of {document.name} is damaged: {error}") from error
