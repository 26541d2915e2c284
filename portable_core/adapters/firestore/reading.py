"""Reading records: each segment once for all the pairs that are wanted from it."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from portable_core.adapters.firestore.documents import BUCKET_MS, floor_bucket, is_expired
from portable_core.adapters.firestore.former import fetch_former
from portable_core.adapters.firestore.parts import fetch_parts
from portable_core.adapters.firestore.reading_cache import Locations, SegmentCache
from portable_core.adapters.firestore.scans import (
    FEW_SEGMENTS,
    SCAN_SEGMENTS,
    Source,
    is_segment,
    read_documents,
    select_entries,
)
from portable_core.adapters.firestore.segments import (
    Entry,
    find_in_packed,
    format_value_part,
    join_value,
    read_packed,
    read_range,
    read_segment_entries,
    read_values,
)
from portable_core.errors import StoreDamaged
from portable_core.ports import Milliseconds
from portable_core.records import Pair, Record, unpack_value

#: The most pairs, and the most of their segments, that are read together.
_PAIRS = 512
_SEGMENTS = 16

#: A search for so many pairs goes backwards.
_FEW_PAIRS = 3

#: The most bytes of values in memory, beside those of one segment.
_VALUES_BYTES = 16 * 2**20


class Reader:
    """Reads the records of one database. Safe to use from any number of threads."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._locations = Locations()
        self._cache = SegmentCache()

    def entries(self, start: Milliseconds, end: Milliseconds) -> Iterator[Entry]:
        """Return the entries of a window, each pair once; remember their segments."""
        documents = read_documents(self.source, start, end)
        return select_entries(self._note(documents), start, end)

    def _note(self, documents: Iterable[Any]) -> Iterator[Any]:
        for document in documents:
            if is_segment(document):
                self._locations.note(document)
            yield document

    def forget(self, names: Iterable[str]) -> None:
        """Forget documents that were changed or removed."""
        names = list(names)
        self._locations.forget(names)
        self._cache.forget(names)

    def add(self, document: Any) -> None:
        """Remember a document that was read whole, if it is a segment."""
        if is_segment(document):
            self._cache.add(document)

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        """Return the records of these pairs, in their order; skip missing ones."""
        self.source.database.require_client()
        unique = iter(dict.fromkeys(pairs))
        while chunk := list(islice(unique, _PAIRS)):
            yield from self._read(chunk, self._locate(chunk), again=True)

    def read(self, entries: Iterable[Entry]) -> Iterator[Record]:
        """Return the records of the entries, in their order; skip records removed meanwhile."""
        rest = iter(entries)
        while chunk := list(islice(rest, _PAIRS)):
            where = {entry.pair: entry.document for entry in chunk if not entry.former}
            yield from self._read([entry.pair for entry in chunk], where, again=False)

    # -- finding segments --------------------------------------------------------------------------

    def _locate(self, pairs: Iterable[Pair]) -> dict[Pair, str]:
        """Return the segments that contain the pairs, by pair."""
        found: dict[Pair, str] = {}
        unknown: list[Pair] = []
        for pair in pairs:
            name = self._locations.find(pair)
            if name is None:
                unknown.append(pair)
            else:
                found[pair] = name
        for group in _group_by_time(sorted(unknown)):
            found |= self._search(group)
        return found

    def _search(self, wanted: list[Pair]) -> dict[Pair, str]:
        """Find pairs in order, whose buckets are adjacent, by reading the segments' pairs.

        The segment of a single webhook begins shortly before it, so it is found backwards.
        """
        found: dict[Pair, str] = {}
        few = len(wanted) <= _FEW_PAIRS
        size = FEW_SEGMENTS if few else SCAN_SEGMENTS
        start, end = wanted[0].timestamp, wanted[-1].timestamp + 1
        for document in self.source.scan_segments(start, end, size, descending=few):
            self._locations.note(document)
            packed = read_packed(document)
            first, last = read_range(packed)
            low, high = bisect_left(wanted, (first,)), bisect_left(wanted, (last + 1,))
            for pair in wanted[low:high]:
                if pair not in found and find_in_packed(packed, pair) is not None:
                    found[pair] = document.name
            if len(found) == len(wanted):
                break
        return found

    # -- reading segments --------------------------------------------------------------------------

    def _read(
        self, pairs: Sequence[Pair], where: Mapping[Pair, str], *, again: bool
    ) -> Iterator[Record]:
        """Return the records of pairs in ``where``, and of others in the former layout.

        ``again``: look for a pair once more if its segment does not have it any more.
        """
        former: Iterator[Record] = iter(())
        if self.source.former:
            others = [pair for pair in pairs if pair not in where]
            former = fetch_former(self.source.database, others) if others else former
        next_former = next(former, None)
        values = _Values()
        for window in _divide(pairs, where):
            documents = self._load({where[pair] for pair in window if pair in where})
            for pair in window:
                if pair in where:
                    record = self._read_record(pair, documents.get(where[pair]), values)
                    if record is None and again:
                        record = self._read_elsewhere(pair, where[pair])
                    if record is not None and record.erased is None:
                        yield record
                elif next_former is not None and next_former.pair == pair:
                    yield next_former
                    next_former = next(former, None)

    def _load(self, names: set[str]) -> dict[str, Any]:
        """Return the segments by name, those that exist."""
        known = {name: self._cache.find(name) for name in names}
        found = {name: document for name, document in known.items() if document is not None}
        missing = sorted(names - found.keys())
        if missing:
            documents, _ = self.source.database.get(missing)
            for document in documents.values():
                self._cache.add(document)
            found |= documents
        return found

    def _read_record(self, pair: Pair, document: Any, values: _Values) -> Record | None:
        """Return the record of a pair in a segment, None if it is not there any more."""
        if document is None:
            return None
        index = find_in_packed(read_packed(document), pair)
        if index is None:
            return None
        value = values.read(document)[index]
        if not value:
            whole = self._join(document, index)
            if whole is None:
                return None
            value = whole
        return unpack_value(pair, value)

    def _join(self, document: Any, index: int) -> bytes | None:
        """Return the value of a large record.

        Return None if retention or a TTL policy is removing it.
        """
        entry = read_segment_entries(document)[index]
        segment = document.name.rpartition("/")[2]
        ids = [format_value_part(segment, index, number) for number in range(entry.parts)]
        pieces = fetch_parts(self.source.database, ids)
        if pieces is not None:
            return join_value(document, entry, pieces)
        documents, read_at = self.source.database.get([document.name])
        # A TTL policy removes documents in any order, within a day.
        if documents and not is_expired(documents[document.name], read_at):
            raise StoreDamaged(f"a part of {document.name} is missing")
        return None

    def _read_elsewhere(self, pair: Pair, name: str) -> Record | None:
        """Return the record of a pair whose segment was removed or changed."""
        self.forget([name])
        where = self._search([pair])
        return next(self._read([pair], where, again=False), None)


class _Values:
    """The values of the segments that were decompressed last."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, list[bytes]] = OrderedDict()
        self._bytes = 0

    def read(self, document: Any) -> list[bytes]:
        """Return the values of a segment's records."""
        known = self._values.get(document.name)
        if known is not None:
            return known
        values = read_values(document)
        while self._values and self._bytes > _VALUES_BYTES:
            _, oldest = self._values.popitem(last=False)
            self._bytes -= sum(map(len, oldest))
        self._values[document.name] = values
        self._bytes += sum(map(len, values))
        return values


def _group_by_time(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Divide pairs in order where more than a bucket lies between two of them."""
    group: list[Pair] = []
    for pair in pairs:
        if group and floor_bucket(pair.timestamp) - floor_bucket(group[-1].timestamp) > BUCKET_MS:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _divide(pairs: Sequence[Pair], where: Mapping[Pair, str]) -> Iterator[list[Pair]]:
    """Divide pairs into runs whose segments are read together."""
    run: list[Pair] = []
    names: set[str] = set()
    for pair in pairs:
        name = where.get(pair)
        if name is not None and name not in names and len(names) == _SEGMENTS:
            yield run
            run, names = [], set()
        run.append(pair)
        if name is not None:
            names.add(name)
    if run:
        yield run
