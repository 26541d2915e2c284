"""Sorted entries of a search index: in memory, or in a file beside the records.

An entry is a term, the milliseconds within the hour, and the hash of a record, big-endian: entries
of one term are together and in the order of their pairs. An index file is complete or absent: it
is written under another name. It is read by ``pread``, so that a damaged disk raises an error.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from portable_core.adapters.sqlite.files import HOUR_MS, translate_error
from portable_core.records import Pair

_TERM = 4
_PAIR = 10
ENTRY = _TERM + _PAIR

#: Magic, version of the terms, highest rowid, number of entries, length of the counts, key of the
#: highest rowid.
_HEAD = struct.Struct(">8sIQQI28s")
_MAGIC = b"wsindex1"

#: The most sources that the counts of a file name; the others are counted under :data:`OTHERS`.
_MOST_SOURCES = 100
OTHERS = "…"

#: How many entries are read at a time, and how many reads of one entry cost more than reading all.
_BLOCK = 512
_FEW = 16

#: How many records by their source and whether they were recovered.
Counts = Counter[tuple[str, bool]]


def pack_pair(hour: int, pair: Pair) -> bytes:
    """Return the pair of a record of this hour; smaller and greater ones keep their order."""
    offset = pair.timestamp - hour * HOUR_MS
    if offset < 0:
        return bytes(_PAIR)
    if offset >= HOUR_MS:
        return b"\xff" * _PAIR
    return offset.to_bytes(3, "big") + pair.hash.to_bytes(7, "big")


def unpack_pair(hour: int, packed: bytes) -> Pair:
    return Pair(
        hour * HOUR_MS + int.from_bytes(packed[:3], "big"), int.from_bytes(packed[3:], "big")
    )


def split_entries(block: bytes) -> list[bytes]:
    return [block[at : at + ENTRY] for at in range(0, len(block), ENTRY)]


def add_count(counts: Counts, source: str, *, recovered: bool, number: int = 1) -> None:
    known = (source, recovered) in counts or len(counts) < 2 * _MOST_SOURCES
    counts[source if known else OTHERS, recovered] += number


class Entries(Protocol):
    """Sorted entries."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...

    def read(self, low: int, high: int) -> bytes:
        """Return the entries from ``low`` on and before ``high``."""
        ...


class Run:
    """Entries in memory, of ``records`` records."""

    def __init__(self, entries: Iterable[bytes], records: int) -> None:
        self._block = b"".join(sorted(entries))
        self.records = records

    def __len__(self) -> int:
        return len(self._block) // ENTRY

    def __getitem__(self, index: int) -> bytes:
        return self._block[index * ENTRY : index * ENTRY + ENTRY]

    def read(self, low: int, high: int) -> bytes:
        return self._block[low * ENTRY : high * ENTRY]


class IndexFile:
    """An open index file, with the extent of the records that it covers."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises ``FileNotFoundError``, and ``ValueError`` for any other file."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        #: The version of the terms, and the highest rowid that is indexed, with its key.
        self.version: int
        self.rows: int
        self.tail: bytes
        self._count: int
        try:
            head = os.pread(self._descriptor, _HEAD.size, 0)
            if len(head) != _HEAD.size or not head.startswith(_MAGIC):
                raise ValueError("not an index file")
            _, self.version, self.rows, self._count, length, tail = _HEAD.unpack(head)
            self.tail = tail.strip(b"\0")
            self._start = _HEAD.size + length
            size = os.fstat(self._descriptor).st_size
            if size != self._start + self._count * ENTRY:
                raise ValueError("not complete")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        return os.pread(self._descriptor, ENTRY, self._start + index * ENTRY)

    def read(self, low: int, high: int) -> bytes:
        return os.pread(self._descriptor, (high - low) * ENTRY, self._start + low * ENTRY)

    def counts(self) -> Counts:
        text = os.pread(self._descriptor, self._start - _HEAD.size, _HEAD.size)
        try:
            rows = msgspec.msgpack.decode(text, type=list[tuple[str, bool, int]])
        except msgspec.MsgspecError:
            return Counter()
        return Counter({(source, recovered): number for source, recovered, number in rows})

    def list_all(self, entries: int = 4096) -> Iterator[bytes]:
        """Yield all entries in order, in bounded memory."""
        for low in range(0, self._count, entries):
            yield from split_entries(self.read(low, min(low + entries, self._count)))


def write_index(
    path: Path, version: int, rows: int, tail: bytes, counts: Counts, blocks: Iterable[bytes]
) -> None:
    """Write an index file durably; it appears when it is complete. Raises ``StoreError``."""
    partial = path.with_suffix(".partial")
    packed = msgspec.msgpack.encode([(*name, number) for name, number in counts.items()])
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_HEAD.pack(_MAGIC, version, rows, 0, len(packed), tail) + packed)
                start, size = file.tell(), 0
                for block in blocks:
                    size += file.write(block)
                file.seek(0)
                entries = size // ENTRY
                file.write(_HEAD.pack(_MAGIC, version, rows, entries, len(packed), tail))
                file.flush()
                os.fsync(file.fileno())
            assert start == _HEAD.size + len(packed)  # noqa: S101
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise
    except OSError as error:
        raise translate_error(error, path.name) from error


def find_packed(
    entries: Entries, terms: Collection[bytes], low: bytes, high: bytes, limit: int
) -> tuple[list[bytes], int]:
    """Return the last packed pairs in ``[low, high)`` that have all terms, newest first, at most
    ``limit``; and how many entries were read.
    """
    ranges = sorted(
        (
            (bisect_left(entries, term + low), bisect_left(entries, term + high), term)
            for term in terms
        ),
        key=lambda found: found[1] - found[0],
    )
    (first, end, _), *others = ranges
    if first == end:
        return [], len(ranges)
    checks = [_make_check(entries, other, end - first) for other in others]
    found: list[bytes] = []
    cost = sum(check.cost for check in checks)
    while end > first and len(found) < limit:
        begin = max(first, end - _BLOCK)
        block = split_entries(entries.read(begin, end))
        cost, end = cost + len(block), begin
        for entry in reversed(block):
            packed = entry[_TERM:]
            if all(check.has(packed) for check in checks):
                found.append(packed)
                if len(found) == limit:
                    break
    return found, cost


@dataclass(slots=True)
class _Check:
    """Whether a record has a term too: by its entries, if they were read, else by a search."""

    entries: Entries
    first: int
    end: int
    term: bytes
    known: frozenset[bytes] | None = None

    @property
    def cost(self) -> int:
        return 0 if self.known is None else len(self.known)

    def has(self, packed: bytes) -> bool:
        if self.known is not None:
            return packed in self.known
        entry = self.term + packed
        at = bisect_left(self.entries, entry, self.first, self.end)
        return at < self.end and self.entries[at] == entry


def _make_check(entries: Entries, found: tuple[int, int, bytes], candidates: int) -> _Check:
    first, end, term = found
    check = _Check(entries, first, end, term)
    if candidates * _FEW >= end - first:
        block = split_entries(entries.read(first, end))
        check.known = frozenset(entry[_TERM:] for entry in block)
    return check
