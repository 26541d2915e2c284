"""The record of one webhook on a node: its pair, its payload and its metadata.

All values are frozen. Pairs are ordered by timestamp, then hash, as every stream and every store
is. (On the wire a pair is written hash first; see :mod:`portable_core.wire.negotiation`.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgpack
import msgspec

from portable_core.documents import convert_document
from portable_core.errors import BadRequest, StoreDamaged

#: The largest hash and the largest timestamp: every JSON reader preserves integers up to it exactly
#: (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1

#: The type of a member with such an integer, in documents and in streams.
Integer = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]

_ID = re.compile(r"([0-9]{1,16})-([0-9]{1,16})")
_HEX_DIGITS = 14  # of MAX_INTEGER

#: The member of the metadata that marks an erased record in a store.
_ERASED = "erased"

_pack = msgspec.msgpack.Encoder().encode


class Pair(NamedTuple):
    """Identifies one record on one node; compares in the order of streams and stores.

    - ``timestamp``: integer milliseconds since the Unix epoch, UTC, assigned by the node that
      received the webhook.
    - ``hash``: an unsigned integer of at most 53 bits.
    """

    timestamp: int
    hash: int


class Meta(msgspec.Struct, frozen=True):  # made in a fifth of the time of a data class
    """The metadata that is kept with a payload.

    - ``source``: the last part of ``/webhook/<source>``; empty for ``/webhook``.
    - ``headers``: the kept headers. Names are in lower case; the values of a repeated header are
      joined with a comma (RFC 9110, section 5.3). A value has one character per byte.
    - ``query``: the query string as it was sent, with one character per byte.
    - ``key``: the key of the webhook's identity (:mod:`.payload_hash.identity`). Empty in records
      of versions before 0.2, whose hash is of the payload alone.
    - ``rule``: the text of the identity rule that hash and key were computed under.
    - ``via``: the kind of the provider's delivery log that the webhook was read from; empty for one
      that its sender sent. Its bytes are the log's: a signature may not match them.
    """

    source: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    query: str = ""
    key: str = ""
    rule: str = ""
    via: str = ""

    def __bool__(self) -> bool:
        return bool(self.source or self.headers or self.query or self.key)

    def __hash__(self) -> int:
        headers = tuple(sorted(self.headers.items()))
        return hash((self.source, headers, self.query, self.key, self.rule, self.via))

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        texts = len(self.source) + len(self.query) + len(self.key) + len(self.rule)
        texts += len(self.via)
        return texts + sum(map(len, self.headers)) + sum(map(len, self.headers.values()))

    def to_mapping(self) -> dict[str, object]:
        """Return the form on the wire and in stores, without empty members."""
        mapping: dict[str, object] = {}
        if self.source:
            mapping["source"] = self.source
        if self.headers:
            mapping["headers"] = dict(self.headers)
        if self.query:
            mapping["query"] = self.query
        if self.key:
            mapping["key"] = self.key
        if self.rule:
            mapping["rule"] = self.rule
        if self.via:
            mapping["via"] = self.via
        return mapping

    @classmethod
    def from_mapping(cls, mapping: object) -> Meta:
        """Return the metadata from its form on the wire; the inverse of :meth:`to_mapping`.

        Unknown members are ignored. Raises ``ValueError`` for any other value.
        """
        return convert_document(mapping, cls, "meta")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Marks a record that the master fetched from a slave; ``at`` is the time in ms."""

    slave: str
    at: Integer


class Record(msgspec.Struct, frozen=True):
    """One webhook on one node. ``recovery`` is None if a sender sent it to this node.

    ``erased`` is the time at which an operator deleted the webhook; the record then has its pair
    alone. Stores return no such record: its pair represents the webhook, and nothing else is left.
    """

    pair: Pair
    payload: bytes
    meta: Meta = Meta()
    recovery: Recovery | None = None
    erased: Integer | None = None

    @property
    def size(self) -> int:
        """The approximate size in bytes: the payload and the metadata."""
        return len(self.payload) + self.meta.size


def format_id(pair: Pair) -> str:
    """Return the id of a webhook: ``<timestamp>-<hash>``."""
    return f"{pair.timestamp}-{pair.hash}"


def parse_id(text: str) -> Pair:
    """Return the pair of a webhook's id. Raises ``BadRequest`` for any other text."""
    match = _ID.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > MAX_INTEGER:
        raise BadRequest(f"webhook id: must be <timestamp>-<hash> (got {text[:60]!r})")
    return Pair(int(match[1]), int(match[2]))


def format_sort_key(pair: Pair) -> str:
    """Return a text that sorts like the pair: both parts in hexadecimal of a fixed width."""
    return "%014x%014x" % pair  # noqa: UP031  # a quarter of the time


def format_sort_key_floor(timestamp: int) -> str:
    """Return the smallest sort key at or after ``timestamp``; negative times count as 0."""
    return f"{min(max(timestamp, 0), MAX_INTEGER + 1):014x}"


def parse_sort_key(key: str) -> Pair:
    """Return the pair of a sort key. Raises ``ValueError`` for any other text."""
    if len(key) != 2 * _HEX_DIGITS:
        raise ValueError(f"must be a record's sort key (got {key[:40]!r})")
    return Pair(int(key[:_HEX_DIGITS], 16), int(key[_HEX_DIGITS:], 16))


def pack_value(record: Record) -> bytes:
    """Return a record without its pair as a MessagePack array: payload, meta, recovery."""
    recovery = record.recovery
    if record.erased is not None:  # in the form of a record, which an older version can read
        return _pack((b"", {_ERASED: record.erased}, None))
    return _pack(
        (
            record.payload,
            record.meta.to_mapping(),
            None if recovery is None else (recovery.slave, recovery.at),
        )
    )


def unpack_value(pair: Pair, value: bytes) -> Record:
    """Return the record of a packed value. Raises :class:`StoreDamaged` for any other bytes."""
    try:
        payload, meta, recovery = msgpack.unpackb(value)
        if not isinstance(payload, bytes):
            raise ValueError("payload: must be binary")
        if _ERASED in meta:
            return Record(pair, b"", erased=int(meta[_ERASED]))
        return Record(
            pair,
            payload,
            Meta.from_mapping(meta),
            None if recovery is None else Recovery(*recovery),
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StoreDamaged(f"record {format_id(pair)}: damaged value: {error}") from error
