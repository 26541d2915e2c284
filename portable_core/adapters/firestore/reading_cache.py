"""What a process has read lately: the pairs of segments, and segments.

Two caches make a sync cheap. The **locations** are the packed pairs of segments: a pair that a scan
has just passed is found without another read. The **segments** are the documents that were read in
the last seconds: a slave requests the records that a master lacks in short runs, several of which
lie in one segment. Both are bounded, and safe to use from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from portable_core.adapters.firestore.client import read_elapsed
from portable_core.adapters.firestore.documents import floor_bucket
from portable_core.adapters.firestore.segments import find_in_packed, read_packed
from portable_core.ports import Milliseconds
from portable_core.records import Pair

_LOCATIONS_BYTES = 4 * 2**20

#: The most bytes of cached segments, and how long they are used: another process may have deleted a
#: record meanwhile.
_SEGMENTS_BYTES = 16 * 2**20
_SEGMENTS_S = 10.0


class Locations:
    """The packed pairs of the segments that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Milliseconds, dict[str, bytes]] = OrderedDict()
        self._bytes = 0

    def note(self, document: Any) -> None:
        """Remember the pairs of a segment."""
        packed = read_packed(document)
        bucket = floor_bucket(int.from_bytes(packed[:8], "big"))
        with self._lock:
            segments = self._buckets.setdefault(bucket, {})
            self._bytes += len(packed) - len(segments.get(document.name, b""))
            segments[document.name] = packed
            self._buckets.move_to_end(bucket)
            while self._bytes > _LOCATIONS_BYTES and len(self._buckets) > 1:
                _, oldest = self._buckets.popitem(last=False)
                self._bytes -= sum(map(len, oldest.values()))

    def find(self, pair: Pair) -> str | None:
        """Return the name of a segment that had the pair, None if none is known."""
        with self._lock:
            segments = dict(self._buckets.get(floor_bucket(pair.timestamp), ()))
        for name, packed in segments.items():
            if find_in_packed(packed, pair) is not None:
                return name
        return None

    def forget(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                for segments in self._buckets.values():
                    self._bytes -= len(segments.pop(name, b""))


class SegmentCache:
    """The segments that were read in the last seconds, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: OrderedDict[str, tuple[Any, float, int]] = OrderedDict()
        self._bytes = 0

    def find(self, name: str) -> Any:
        """Return a segment, None if it was not read lately."""
        with self._lock:
            document, until, _ = self._documents.get(name, (None, 0.0, 0))
        return document if read_elapsed() < until else None

    def add(self, document: Any) -> None:
        size = document.ByteSize()
        with self._lock:
            self._drop(document.name)
            self._documents[document.name] = document, read_elapsed() + _SEGMENTS_S, size
            self._bytes += size
            while self._bytes > _SEGMENTS_BYTES:
                self._drop(next(iter(self._documents)))

    def forget(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._drop(name)

    def _drop(self, name: str) -> None:
        self._bytes -= self._documents.pop(name, (None, 0.0, 0))[2]
