"""Counts of operations, as Firestore bills them, and the limits that Firestore sets.

The counts make the documented cost testable. :func:`check_limits` checks each commit before it is
sent, in production too, so that no request ever exceeds Firestore's limits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from portable_core.errors import StoreError

#: Firestore's limits ("Quotas and limits" page): bytes of a request, a document, and the value of
#: one field.
REQUEST_LIMIT = 10 * 2**20
DOCUMENT_LIMIT = 2**20
VALUE_LIMIT = 2**20 - 89


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """Counts since the store object was made.

    - ``reads``, ``writes``, ``deletes``: billed documents, by collection. A query without results
      is billed as one read, and so is a requested document that does not exist.
    - ``commits``: commits that succeeded.
    - ``retries``: requests that were sent again.
    - ``largest_request``, ``largest_document``: bytes, in commits.
    """

    reads: Mapping[str, int]
    writes: Mapping[str, int]
    deletes: Mapping[str, int]
    commits: int
    retries: int
    largest_request: int
    largest_document: int


class Operations:
    """Counts the operations on Firestore. Safe to use from any number of threads."""

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
        """Return the current counts."""
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
    """Raise ``StoreError`` if a commit, or a document in it, exceeds Firestore's limits."""
    documents = [write.update for write in request.writes if write.HasField("update")]
    largest = max(map(measure_document, documents), default=0)
    size = request.ByteSize()
    if size > REQUEST_LIMIT or largest > DOCUMENT_LIMIT:
        raise StoreError(
            f"a request of {size} bytes with a document of {largest} bytes exceeds Firestore's "
            "limits and was not sent"
        )
    operations.note_sizes(size, largest)


def measure_document(document: Any) -> int:
    """Return the bytes of a document as Firestore counts them ("Storage size calculations").

    Raise ``StoreError`` for a field with a value that is too large.
    """
    path = document.name.split("/", 5)[-1]
    size = 16 + 32 + sum(len(segment.encode()) + 1 for segment in path.split("/"))
    for name, value in document.fields.items():
        value_size = measure_value(value)
        if value_size > VALUE_LIMIT:
            raise StoreError(
                f"the field {name} of {path} has too many bytes "
                f"(got {value_size}, at most {VALUE_LIMIT})"
            )
        size += len(name.encode()) + 1 + value_size
    return size


def measure_value(value: Any) -> int:
    """Return the bytes of a field's value as Firestore counts them."""
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
    """Return ``webhooks`` for ``projects/P/databases/D/documents/webhooks/ID``."""
    return name.split("/", 6)[5]
