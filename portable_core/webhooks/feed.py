"""The feed: a master's webhooks as lines of JSON, from which a consumer can continue.

A recovered webhook keeps the timestamp of the node that received it, so it is inserted between
records that are already there. A consumer that has read past that timestamp would miss it. So the
feed ends at the time up to which all slaves are synced
(:func:`portable_core.sync.completeness.synced_until`): no record is added before that time, and
each webhook is listed once, in order.

A server may end a response cleanly although its application has stopped early. So the last line of
a complete feed is not a webhook: it marks the end, and has the position from which to continue. A
feed without that line was cut.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import orjson

from portable_core.documents import convert_document
from portable_core.errors import AnswerInvalid, BadRequest
from portable_core.payload_hash.canonical import is_plain
from portable_core.ports import Milliseconds
from portable_core.records import Meta, Pair, Record, Recovery, format_id, parse_id
from portable_core.sync.protocol import parse_integer

NDJSON = "application/x-ndjson"

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class LineDocument(msgspec.Struct, frozen=True):
    """A line of the feed with ``raw``, without the members that repeat its ``id``."""

    id: str
    raw: bytes
    meta: Meta = Meta()
    recovery: Recovery | None = None


def parse_position(text: str) -> Pair:
    """Parse a position: the id of the last webhook read, or a time in milliseconds.

    Returns the first pair that may follow. Raises ``BadRequest``.
    """
    try:
        return Pair(parse_integer(text), 0)
    except ValueError:
        pair = parse_id(text)
    return Pair(pair.timestamp, pair.hash + 1)


def encode_line(record: Record, *, raw: bool = False) -> bytes:
    """Return the line of a record, with its line break.

    The members are ``id``, ``key`` (null for a record of a version before 0.2), ``hash``,
    ``timestamp``, ``meta``, ``recovery``, and either ``data`` (the payload) or ``raw`` (the
    payload's bytes in base64: if requested, or to be exact).
    """
    head: dict[str, object] = {
        "id": format_id(record.pair),
        "key": record.meta.key or None,
        "hash": record.pair.hash,
        "timestamp": record.pair.timestamp,
    }
    if record.meta:
        head["meta"] = record.meta.to_mapping()
    if record.recovery is not None:
        head["recovery"] = {"slave": record.recovery.slave, "at": record.recovery.at}
    start = orjson.dumps(head)[:-1]
    if raw or not is_plain(record.payload):
        return b'%b,"raw":"%b"}\n' % (start, base64.b64encode(record.payload))
    # A line break in JSON is white space: in a string it would be an escape (RFC 8259, section 7).
    return b'%b,"data":%b}\n' % (start, record.payload.translate(_LINE_BREAKS))


def encode_feed(
    records: Iterable[Record],
    since: str,
    end: Milliseconds,
    limit: int | None = None,
    *,
    raw: bool = False,
) -> Iterator[bytes]:
    """Yield the lines of the first ``limit`` of ``records``, and the closing line.

    ``records`` are those of a feed from the position ``since`` up to ``end``.
    The closing line has ``end``, which is true, and ``since``, the next position: the last webhook
    if the limit ended the feed, otherwise the end of the feed.
    """
    sent = 0
    position = since
    for record in islice(records, limit):
        yield encode_line(record, raw=raw)
        sent += 1
        position = format_id(record.pair)
    # A position may lie after the end: the next request must not start before it.
    if sent != limit and Pair(end, 0) > parse_position(since):
        position = str(end)
    yield orjson.dumps({"end": True, "since": position}, option=orjson.OPT_APPEND_NEWLINE)


def decode_line(line: bytes) -> Record:
    """Return the record of a line with ``raw``. Raises ``AnswerInvalid``."""
    try:
        parts = convert_document(msgspec.json.decode(line), LineDocument)
        return Record(parse_id(parts.id), parts.raw, parts.meta, parts.recovery)
    except (ValueError, RecursionError, BadRequest) as error:
        raise AnswerInvalid(f"a line of the feed cannot be read: {error}") from error
