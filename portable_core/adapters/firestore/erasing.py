"""Erasing single records: a segment is rewritten without the payload, with its pairs and places.

``tombstones``
    One document for each webhook that an operator has deleted. The id is its number; ``key`` is the
    same text, ``pair`` the id of the record, ``webhook`` the key of the webhook, ``at`` the time.

A record has its tombstone before it is erased, so an interrupted deletion can be repeated. Another
commit to the same segment in between is noticed by the time of its last change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from portable_core.adapters.firestore.client import read_elapsed
from portable_core.adapters.firestore.documents import (
    PARTS,
    RECORDS,
    count_parts,
    delete_document,
    format_id,
    format_part_id,
    write_document,
)
from portable_core.adapters.firestore.failures import CommitRejected
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.scans import SCAN_SEGMENTS
from portable_core.adapters.firestore.segments import (
    erase_in_segment,
    find_in_packed,
    format_value_part,
    read_packed,
    read_segment_entries,
)
from portable_core.errors import StoreError
from portable_core.ports import Milliseconds, Tombstone
from portable_core.records import Pair, Record, parse_id
from portable_core.records import format_id as format_pair

_TOMBSTONES = "tombstones"
_PAGE = 256
_ATTEMPTS = 20

#: How long a process relies on having found no tombstone: a sync looks for them twice.
_NONE_FOR_S = 10.0


class Eraser:
    """Erases the records of one database. Safe to use from any thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._database = reader.source.database
        self._lock = threading.Lock()
        self._known: set[Pair] = set()
        self._none_until = 0.0

    def refresh(self) -> None:
        """Read the tombstones, also those of other processes."""
        for _ in self.iterate(0):
            pass

    def iterate(self, after: int) -> Iterator[tuple[int, Tombstone]]:
        """Yield the tombstones after a number, in order."""
        self._database.require_client()
        if read_elapsed() < self._none_until:
            return
        found = after > 0
        query = RangeQuery(_TOMBSTONES, "key", _format(after + 1))
        for document in self._database.scan(query, _PAGE):
            fields = document.fields
            tombstone = Tombstone(
                parse_id(fields["pair"].string_value),
                fields["webhook"].string_value,
                fields["at"].integer_value,
            )
            found = True
            with self._lock:
                self._known.add(tombstone.pair)
            yield int(fields["key"].string_value, 16), tombstone
        if not found:
            self._none_until = read_elapsed() + _NONE_FOR_S

    def leave_out(self, records: Sequence[Record]) -> list[Record]:
        """Return the records without those that this process knows to be deleted."""
        with self._lock:
            return [record for record in records if record.pair not in self._known]

    def erase(self, tombstones: Iterable[Tombstone]) -> int:
        """Save the tombstones and erase their records; return how many there were."""
        tombstones = list(tombstones)
        self._save(tombstones)
        return sum(self._erase_record(each.pair, each.at) for each in tombstones)

    def _save(self, tombstones: Sequence[Tombstone]) -> None:
        """Number those without a tombstone; of several processes, one creates a number."""
        for _ in range(_ATTEMPTS):
            self._none_until = 0.0
            number, saved = 0, set[Pair]()
            for number, known in self.iterate(0):  # noqa: B007  # the last one counts
                saved.add(known.pair)
            new = {each.pair: each for each in tombstones if each.pair not in saved}
            writes = []
            for index, each in enumerate(new.values(), number + 1):
                write = write_document(
                    self._database.name(_TOMBSTONES, _format(index)),
                    {
                        "key": _format(index),
                        "pair": format_pair(each.pair),
                        "webhook": each.key,
                        "at": each.at,
                    },
                )
                write.current_document.exists = False
                writes.append(write)
            try:
                if writes:
                    self._database.commit(writes)
                    self._none_until = 0.0
            except CommitRejected:
                continue  # another process has saved one, or the first response was lost
            with self._lock:
                self._known |= new.keys()
            return
        raise StoreError("other instances delete webhooks at the same time. Try again.")

    def _erase_record(self, pair: Pair, at: Milliseconds) -> bool:
        """Erase a record wherever it is; return whether there was one."""
        found = False
        scan = self._reader.source.scan_segments(pair.timestamp, pair.timestamp + 1, SCAN_SEGMENTS)
        for document in scan:
            if find_in_packed(read_packed(document), pair) is not None:
                found |= self._erase_in(document.name, pair, at)
        if self._reader.source.former:
            found |= self._erase_former(pair, at)
        return found

    def _erase_in(self, name: str, pair: Pair, at: Milliseconds) -> bool:
        for _ in range(_ATTEMPTS):
            document = self._database.get([name])[0].get(name)
            index = None if document is None else find_in_packed(read_packed(document), pair)
            if document is None or index is None:
                return False
            entry = read_segment_entries(document)[index]
            if entry.erased:
                return False
            segment = name.rpartition("/")[2]
            gone = [format_value_part(segment, index, number) for number in range(entry.parts)]
            deletes = [self._database.name(PARTS, id_) for id_ in gone]
            if "data" in document.fields:
                deletes.append(self._database.name(RECORDS, format_id(pair)))
            write = erase_in_segment(document, index, at)
            try:
                self._database.commit([write, *map(delete_document, deletes)])
            except CommitRejected:
                continue  # the segment was changed or removed meanwhile
            self._reader.forget([name])
            return True
        raise StoreError(f"{name} is changed all the time. Try again.")

    def _erase_former(self, pair: Pair, at: Milliseconds) -> bool:
        """Erase a document of the former layout; a copy for queries has no payload."""
        name = self._database.name(RECORDS, format_id(pair))
        document: Any = self._database.get([name])[0].get(name)
        parts = 0 if document is None else count_parts(document)
        if document is None or not (parts or "payload" in document.fields):
            return False
        write = write_document(name, {"hash": pair.hash, "timestamp": pair.timestamp, "erased": at})
        gone = [format_part_id(format_id(pair), number) for number in range(parts)]
        deletes = [delete_document(self._database.name(PARTS, id_)) for id_ in gone]
        self._database.commit([write, *deletes])
        return True


def _format(number: int) -> str:
    return f"{number:014x}"
