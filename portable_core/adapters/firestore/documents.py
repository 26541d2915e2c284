"""Names, fields and times of Firestore documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud.firestore_v1 import types

from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Pair

#: The collections with records; :mod:`.segments`, :mod:`.data_copies` and :mod:`.former` define
#: their documents.
SEGMENTS, PARTS, RECORDS = "segments", "parts", "webhooks"

#: Milliseconds of one time bucket. All pairs of a segment are in one bucket. So a bucket bounds the
#: pairs that a reader requests in excess, the pairs that it holds in memory, and the window that
#: retention keeps or removes as a whole.
BUCKET_MS = 10_000

#: A value larger than this is stored in parts of this many bytes: below a document's limit of
#: 1,048,576 bytes, with room for names and fields. Four parts fill one commit.
PART_BYTES = 960_000

#: The fields of a document; those that are None are left out.
Fields = Mapping[str, bytes | str | int | None]

_Write = types.Write.pb()

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
        set_time(write.update.fields["expires"], expires)
    return write


def set_time(value: Any, at: Milliseconds) -> None:
    """Set a ``Value`` message to a time; times after the year 9999 become its end."""
    timestamp = value.timestamp_value
    timestamp.seconds, rest = divmod(min(at, _LAST_TIME), 1000)
    timestamp.nanos = rest * 1_000_000


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


def count_parts(document: Any) -> int:
    return int(document.fields["parts"].integer_value) if "parts" in document.fields else 0


def read_nanoseconds(timestamp: Any) -> int:
    """Return a timestamp message in ns since the epoch."""
    return int(timestamp.seconds) * 1_000_000_000 + int(timestamp.nanos)
