"""What a database was asked to do, counted as Firestore bills it, and the limits it sets.

The counts are the cost promise made checkable; the sizes prove that nothing beyond Firestore's
limits was ever sent: :func:`check_limits` sees each commit before it leaves, in production too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from portable_core.errors import StoreError

#: Firestore's limits (its "Quotas and limits" page): bytes of a request, of a document, of one
#: field's value.
REQUEST_LIMIT = 10 * 2**20
DOCUMENT_LIMIT = 2**20
VALUE_LIMIT = 2**20 - 89


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """Counts since the store was made; the first three by collection.

    ``reads``, ``writes`` and ``deletes`` are documents: what is billed. A query that finds nothing
    is billed as one read, a document that is asked for and missing as well. A commit counts once it
    succeeded. ``retries`` are requests that were sent again; ``largest_request`` and
    ``largest_document`` are bytes, of commits.
    """

    reads: Mapping[str, int]
    writes: Mapping[str, int]
    deletes: Mapping[str, int]
    commits: int
    retries: int
    largest_request: int
    largest_document: int


class Operations:
    """Counts what is asked of Firestore. Safe to use from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()
        self._deletes: Counter[str] = Counter()
        self._commits = 0
        self._retries = 0
        self._largest_request = 0
        self._largest_document = 0

    def read(self) -> OperationCounts:
        """The counts as they are now."""
        with self._lock:
            return OperationCounts(
                dict(self._reads),
                dict(self._writes),
                dict(self._deletes),
                self._commits,
                self._retries,
                self._largest_request,
                self._largest_document,
            )

    def count_reads(self, collection: str, documents: int) -> None:
        with self._lock:
            self._reads[collection] += documents

    def count_commit(self, writes: Iterable[Any]) -> None:
        with self._lock:
            self._commits += 1
            for write in writes:
                if write.WhichOneof("operation") == "delete":
                    self._deletes[collection_of(write.delete)] += 1
                else:
                    self._writes[collection_of(write.update.name)] += 1

    def count_retry(self, _error: Exception | None = None) -> None:
        with self._lock:
            self._retries += 1

    def note_sizes(self, request: int, document: int) -> None:
        with self._lock:
            self._largest_request = max(self._largest_request, request)
            self._largest_document = max(self._largest_document, document)


def check_limits(request: Any, operations: Operations) -> None:
    """Raise ``StoreError`` if a commit, or a document in it, is beyond Firestore's limits."""
    documents = [write.update for write in request.writes if write.HasField("update")]
    largest = max(map(measure_document, documents), default=0)
    size = request.ByteSize()
    if size > REQUEST_LIMIT or largest > DOCUMENT_LIMIT:
        raise StoreError(
            f"a request of {size} bytes with a document of {largest} bytes is beyond Firestore's "
            "limits; it was not sent"
        )
    operations.note_sizes(size, largest)


def measure_document(document: Any) -> int:
    """The bytes of a document as Firestore counts them ("Storage size calculations").

    Raises ``StoreError`` for a field whose value alone is too large.
    """
    path = document.name.split("/", 5)[-1]
    size = 16 + 32 + sum(len(segment.encode()) + 1 for segment in path.split("/"))
    for name, value in document.fields.items():
        value_size = measure_value(value)
        if value_size > VALUE_LIMIT:
            raise StoreError(f"the field {name} of {path} has {value_size} bytes, too many")
        size += len(name.encode()) + 1 + value_size
    return size


def measure_value(value: Any) -> int:
    """The bytes of a field's value as Firestore counts them."""
    kind = value.WhichOneof("value_type")
    if kind == "bytes_value":
        return len(value.bytes_value)
    if kind == "string_value":
        return len(value.string_value.encode()) + 1
    if kind == "map_value":
        return 32 + sum(
            len(name.encode()) + 1 + measure_value(item)
            for name, item in value.map_value.fields.items()
        )
    if kind == "array_value":
        return sum(map(measure_value, value.array_value.values))
    return 1 if kind in ("null_value", "boolean_value") else 8


def collection_of(name: str) -> str:
    """``webhooks`` of ``projects/P/databases/D/documents/webhooks/ID``."""
    return name.split("/", 6)[5]
