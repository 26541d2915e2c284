"""Copies for queries: with ``FIRESTORE_DATA=1`` one document in ``webhooks`` for each record.

No reader of this package uses them. Each is written in one commit with the segment of its record,
and removed with that segment. Its id is hash, then timestamp, so that ids do not increase with
time. Fields that are absent from the webhook are left out:

- ``data``: the payload as a map; or ``data_missing``: the reason for its absence.
- ``hash``, ``timestamp``, ``received`` (the timestamp as Firestore's type), ``key``.
- ``source``, ``headers`` (a map), ``query``.
- ``recovered_from``, ``recovered_at``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portable_core.adapters.firestore.documents import (
    RECORDS,
    format_id,
    set_time,
    write_document,
)
from portable_core.adapters.firestore.native import NotNative, fill_map, is_name
from portable_core.adapters.firestore.operations import (
    VALUE_LIMIT,
    measure_document,
    measure_value,
)
from portable_core.records import Record

#: The most bytes of a copy's fields beside ``data``: longer metadata are left out.
_META_BYTES = 100_000

#: The most bytes of a copy, below a document's limit with room for its name.
_COPY_BYTES = 1_010_000


def write_copy(root: str, record: Record) -> Any:
    """Return the ``Write`` of a record's copy. Raise ``ValueError`` if Firestore cannot hold it."""
    recovery = record.recovery
    write = write_document(
        f"{root}/{RECORDS}/{format_id(record.pair)}",
        {
            "hash": record.pair.hash,
            "timestamp": record.pair.timestamp,
            "key": record.meta.key or None,
            "recovered_from": recovery.slave if recovery else None,
            "recovered_at": recovery.at if recovery else None,
        },
    )
    set_time(write.update.fields["received"], record.pair.timestamp)
    if record.meta.size <= _META_BYTES:
        _add_meta(write.update, record)
    _add_data(write.update, record.payload)
    return write


def _add_meta(document: Any, record: Record) -> None:
    for name, text in (("source", record.meta.source), ("query", record.meta.query)):
        if text:
            document.fields[name].string_value = text
    headers = {name: text for name, text in record.meta.headers.items() if is_name(name)}
    for name, text in headers.items():
        document.fields["headers"].map_value.fields[name].string_value = text


def _add_data(document: Any, payload: bytes) -> None:
    try:
        rest = measure_document(document)
        fill_map(payload, document.fields["data"])
        # Small values are larger in a map than in the payload: 8 bytes instead of the 2 of "1,".
        size = measure_value(document.fields["data"])
        if size > VALUE_LIMIT or rest + size > _COPY_BYTES:
            raise NotNative("the payload is too large as a map")
    except NotNative as error:
        _drop_data(document, str(error))


def _drop_data(document: Any, reason: str) -> None:
    if "data" in document.fields:
        del document.fields["data"]
    document.fields["data_missing"].string_value = reason


def drop_maps(writes: Iterable[Any], reason: str) -> bool:
    """Replace the map of each copy among these writes by the reason for its absence.

    Return whether any had one.
    """
    path = f"/documents/{RECORDS}/"
    documents = [
        write.update
        for write in writes
        if path in write.update.name and "data" in write.update.fields
    ]
    for document in documents:
        _drop_data(document, reason)
    return bool(documents)
