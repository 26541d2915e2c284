"""What a node keeps of one webhook: a pair that identifies it, its bytes, and its meta.

All values are frozen. Pairs order by timestamp, then hash: the order of every stream and every
store. (On the wire a pair is written hash first; see :mod:`portable_core.wire.negotiation`.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgpack
import msgspec

from portable_core.documents import convert_document
from portable_core.errors import BadRequest, StoreDamaged

#: The largest hash and the largest timestamp: integers that every JSON reader holds exactly
#: (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1

#: The type of such an integer in documents that are read with msgspec.
Integer = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]

_ID = re.compile(r"([0-9]{1,16})-([0-9]{1,16})")
_KEY_HALF = 14  # hexadecimal digits of MAX_INTEGER


class Pair(NamedTuple):
    """Identifies one record on one node; compares in the order of streams and stores.

    ``timestamp`` is integer milliseconds since the Unix epoch, UTC, given by the node that received
    the payload; ``hash`` an unsigned integer of at most 53 bits.
    """

    timestamp: int
    hash: int


@dataclass(frozen=True, slots=True)
class Meta:
    """What is kept beside the payload.

    - ``source``: the last part of ``/webhook/<source>``; empty for ``/webhook``.
    - ``headers``: header names are lower case, each once; a header that came several times has its
      values joined with a comma (RFC 9110, section 5.3). A value has a character a byte.
    - ``query``: the query string, as it was sent, a character a byte.
    - ``key``: the key of the webhook's identity (:mod:`.payload_hash.identity`). Empty in records
      of versions before 0.2, whose hash is of the payload alone.
    - ``rule``: the text of the identity rule that hash and key were computed under.
    """

    source: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    key: str = ""
    rule: str = ""

    def __bool__(self) -> bool:
        return bool(self.source or self.headers or self.query or self.key)

    def __hash__(self) -> int:
        headers = tuple(sorted(self.headers.items()))
        return hash((self.source, headers, self.query, self.key, self.rule))

    @property
    def size(self) -> int:
        """Roughly the bytes it occupies."""
        texts = len(self.source) + len(self.query) + len(self.key) + len(self.rule)
        return texts + sum(len(name) + len(text) for name, text in self.headers.items())

    def to_mapping(self) -> dict[str, object]:
        """The form on the wire and in stores: empty parts are left out."""
        mapping: dict[str, object] = {}
        if self.source:
            mapping["source"] = self.source
        if self.headers:
            mapping["headers"] = dict(self.headers)
        for name, text in (("query", self.query), ("key", self.key), ("rule", self.rule)):
            if text:
                mapping[name] = text
        return mapping

    @classmethod
    def from_mapping(cls, mapping: object) -> Meta:
        """Return the meta of such a form; the inverse of :meth:`to_mapping`.

        Unknown members are ignored. Raises ``ValueError`` for a value of another form.
        """
        return convert_document(mapping, cls, "meta")


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a record came to the master if no sender brought it: from which slave, and when (ms)."""

    slave: str
    at: int


@dataclass(frozen=True, slots=True)
class Record:
    """One webhook on one node. ``recovery`` is None where the sender itself brought it."""

    pair: Pair
    payload: bytes
    meta: Meta = Meta()
    recovery: Recovery | None = None

    @property
    def size(self) -> int:
        """Roughly the bytes it occupies: the payload and its meta."""
        return len(self.payload) + self.meta.size


def format_id(pair: Pair) -> str:
    """Return the id of a webhook: ``<timestamp>-<hash>``."""
    return f"{pair.timestamp}-{pair.hash}"


def parse_id(text: str) -> Pair:
    """The opposite of :func:`format_id`. Raises ``BadRequest`` for anything else."""
    match = _ID.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > MAX_INTEGER:
        raise BadRequest(f"{text[:60]!r} is not a webhook's id, <timestamp>-<hash>")
    return Pair(int(match[1]), int(match[2]))


def format_key(pair: Pair) -> str:
    """The pair as text whose order is the pairs' order: both halves in fixed-width hexadecimal."""
    return f"{pair.timestamp:014x}{pair.hash:014x}"


def format_key_floor(timestamp: int) -> str:
    """The smallest key at or after ``timestamp``, for ranges; negative times count as 0."""
    return f"{min(max(timestamp, 0), MAX_INTEGER + 1):014x}"


def parse_key(key: str) -> Pair:
    """The opposite of :func:`format_key`. Raises ``ValueError`` for any other text."""
    if len(key) != 2 * _KEY_HALF:
        raise ValueError(f"not a record's key: {key[:40]!r}")
    return Pair(int(key[:_KEY_HALF], 16), int(key[_KEY_HALF:], 16))


def pack_value(record: Record) -> bytes:
    """Everything of a record but its pair, as one MessagePack array: payload, meta, recovery."""
    recovery = record.recovery
    packed: bytes = msgpack.packb(
        (
            record.payload,
            record.meta.to_mapping(),
            None if recovery is None else (recovery.slave, recovery.at),
        )
    )
    return packed


def unpack_value(pair: Pair, value: bytes) -> Record:
    """The opposite of :func:`pack_value`. Raises :class:`StoreDamaged` for anything else."""
    try:
        payload, meta, recovery = msgpack.unpackb(value)
        if not isinstance(payload, bytes):
            raise ValueError("the payload is not bytes")
        return Record(
            pair,
            payload,
            Meta.from_mapping(meta),
            None if recovery is None else Recovery(*recovery),
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StoreDamaged(f"the value of record {format_key(pair)} is damaged: {error}") from error
