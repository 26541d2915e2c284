"""Known data files as packed bytes, lists of them, and sums over them."""

from __future__ import annotations

import struct
from binascii import hexlify, unhexlify
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from portable_core.adapters.sqlite.files import DataFile, Extent

LAST_HOUR = 10**10

#: Hour and number, big-endian, so that the bytes have the order of the files; inode, size, mtime in
#: nanoseconds, highest rowid, first and last key, key of that rowid, records; whether the file was
#: read since the store was opened.
_ROW = struct.Struct(">QIQQqQ14s14s14sQ?")
#: The key of the last row of a file that an older version closed.
_UNKNOWN = bytes(14)
PLACE = struct.Struct(">QI")
IDENTITY = struct.Struct(">QIQQq")
ROWS = struct.Struct(">Q")

Item = bytes | DataFile


def pack_place(hour: int, number: int) -> bytes:
    return PLACE.pack(hour, number)


def pack_file(file: DataFile, *, checked: bool) -> bytes:
    extent = file.extent
    tail = unhexlify(extent.tail) if extent.tail else _UNKNOWN
    keys = (unhexlify(extent.first), unhexlify(extent.last), tail)
    place = (file.hour, file.number)
    count = extent.count or 0
    return _ROW.pack(*place, *file.fingerprint, extent.rows, *keys, count, checked)


def unpack_file(row: bytes) -> DataFile:
    hour, number, inode, size, mtime, rows, first, last, tail, count, _ = _ROW.unpack(row)
    known = b"" if tail == _UNKNOWN else hexlify(tail)
    extent = Extent(rows, hexlify(first), hexlify(last), count, known)
    return DataFile(hour, number, inode, extent, fingerprint=(inode, size, mtime))


def is_checked(row: bytes) -> bool:
    return row[-1] == 1


def sort_key(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item[: PLACE.size]
    return pack_place(item.hour, item.number)


class FileList(Sequence[DataFile]):
    """A snapshot of known files, by hour and number."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> DataFile: ...

    @overload
    def __getitem__(self, index: slice) -> FileList: ...

    def __getitem__(self, index: int | slice) -> DataFile | FileList:
        if isinstance(index, slice):
            return FileList(self._items[index])
        item = self._items[index]
        return unpack_file(item) if isinstance(item, bytes) else item


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the closed files, and the other files themselves.

    ``unchecked`` is the number of closed files that were not read since the store was opened.
    """

    closed: int
    records: int
    bytes: int
    unchecked: int
    others: tuple[DataFile, ...]
