"""Archived webhooks: one line of JSON each, and the manifest of an archive.

A line has the record whole: id, metadata, recovery, and the exact bytes of the payload, as JSON in
``data`` where the line carries them exactly, otherwise in base64 in ``raw``. Places in the order of
arrival are not archived.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import msgspec
import orjson

from portable_core.errors import AnswerInvalid, BadRequest
from portable_core.payload_hash.canonical import is_plain
from portable_core.ports import Milliseconds
from portable_core.records import (
    Integer,
    Meta,
    Pair,
    Record,
    Recovery,
    format_id,
    format_sort_key,
    parse_id,
)
from portable_core.sync.archiving import Digest

DAY_MS = 86_400_000

#: The most bytes of lines in one request of an import: more than the largest record.
MAX_IMPORT_BYTES = 64 * 2**20


class ArchivedLine(msgspec.Struct, frozen=True):
    """A line, without the members that are for people."""

    id: str
    meta: Meta = Meta()
    recovery: Recovery | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    raw: str | None = None


class Stretch(msgspec.Struct, frozen=True):
    """The archived webhooks of ``[start, end)``, in one file.

    - ``records``: their number; ``bytes``: of the file.
    - ``sha256``: of the file.
    - ``pairs``: the digest of their pairs, ``lines`` that of their lines.
    """

    file: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z._-]{0,200}\Z")]
    start: Milliseconds
    end: Milliseconds
    records: Integer
    bytes: Integer
    sha256: Digest
    pairs: Digest
    lines: Digest


class ArchiveManifest(msgspec.Struct, frozen=True):
    """The manifest of an archive: the store, its hash algorithm, and the stretches in order."""

    store: str
    hash: str
    stretches: tuple[Stretch, ...] = ()
    version: int = 1


@dataclass(slots=True)
class Digests:
    """The digests of records in order, as they are added."""

    records: int = 0
    _pairs: hashlib._Hash = field(default_factory=hashlib.sha256)
    _lines: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, pair: Pair, line: bytes) -> None:
        self.records += 1
        self._pairs.update(format_sort_key(pair).encode())
        self._lines.update(line)

    def read(self) -> tuple[int, str, str]:
        """Return the number of records, and the digests of pairs and lines."""
        return self.records, self._pairs.hexdigest(), self._lines.hexdigest()


def encode_archived(record: Record) -> bytes:
    """Return the line of a record, with its line break."""
    head: dict[str, object] = {"id": format_id(record.pair)}
    meta = record.meta.to_mapping()
    if meta:
        head["meta"] = meta
    if record.recovery is not None:
        head["recovery"] = {"slave": record.recovery.slave, "at": record.recovery.at}
    start, payload = orjson.dumps(head)[:-1], record.payload
    if _is_exact(payload):
        return b'%b,"data":%b}\n' % (start, payload)
    return b'%b,"raw":"%b"}\n' % (start, base64.b64encode(payload))


def _is_exact(payload: bytes) -> bool:
    """Return whether a line carries the bytes of a payload as they are."""
    if payload.strip() != payload or b"\n" in payload or b"\r" in payload:
        return False
    return bool(payload) and is_plain(payload)


def decode_archived(line: bytes) -> Record:
    """Return the record of a line. Raises ``AnswerInvalid``."""
    try:
        parts = convert_line(line)
        if parts.raw is None:
            payload = bytes(parts.data)
        else:
            payload = base64.b64decode(parts.raw, validate=True)
        return Record(parse_id(parts.id), payload, parts.meta, parts.recovery)
    except (ValueError, RecursionError, BadRequest) as error:
        raise AnswerInvalid(f"a line of the archive cannot be read: {error}") from error


def convert_line(line: bytes) -> ArchivedLine:
    """Return the parts of a line. Raises ``ValueError``."""
    return msgspec.json.decode(line, type=ArchivedLine)


def split_days(start: Milliseconds, end: Milliseconds) -> list[tuple[Milliseconds, Milliseconds]]:
    """Return the days of ``[start, end)``; the first and the last may be parts of one."""
    bounds = [start, *range((start // DAY_MS + 1) * DAY_MS, end, DAY_MS), end]
    return [(low, high) for low, high in pairwise(bounds) if low < high]
