"""A webhook of the arrival feed, as a consumer gets it, and the lines of the feed.

The last line of a whole response is not a webhook: it marks the end, and has the position from
which to continue. A response without that line was cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from portable_core.documents import convert_document
from portable_core.errors import AnswerInvalid, BadRequest
from portable_core.records import Meta, Record, parse_id


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook of the feed.

    - ``position``: where the feed continues after this webhook; opaque.
    - ``id``: ``<timestamp>-<hash>``; identifies this record of the master.
    - ``key``: equal for all copies and retries of one webhook; empty for records of versions before
      0.2.
    - ``repeat``: a webhook with the same key came earlier in the feed.
    - ``source``, ``event``: empty if there is none.
    - ``timestamp``: milliseconds since the Unix epoch, of the node that received the webhook.
    - ``came``: how it came to the master.
    - ``via``: the kind of the provider's delivery log that it was read from; empty for a webhook
      that its sender sent. A signature may not match the bytes of a log.
    - ``headers``: the kept headers, names in lower case; ``query``: the query string.
    - ``payload``: the body, byte for byte.
    """

    position: str
    id: str
    key: str = ""
    repeat: bool = False
    source: str = ""
    event: str = ""
    timestamp: int = 0
    came: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    payload: bytes = b""
    via: str = ""

    def __hash__(self) -> int:
        return hash((self.position, self.id))

    @property
    def data(self) -> object:
        """The payload as a value of JSON. Raises ``ValueError`` for any other payload."""
        return json.loads(self.payload)

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        headers = sum(len(name) + len(text) for name, text in self.headers.items())
        return len(self.payload) + headers + 500

    @property
    def record(self) -> Record:
        """The record, as the master's store has it, without its recovery."""
        meta = Meta(self.source, self.headers, self.query, self.key, via=self.via)
        return Record(parse_id(self.id), self.payload, meta)


class _LineDocument(msgspec.Struct, frozen=True):
    """A line of the feed; ``data`` is kept as it is written."""

    position: str
    id: str = ""
    end: bool = False
    key: str | None = None
    repeat: bool | None = False
    source: str | None = None
    event: str | None = None
    timestamp: int = 0
    came: str | None = None
    headers: dict[str, str] = {}
    query: str | None = None
    via: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    raw: bytes | None = None


_DECODER = msgspec.json.Decoder(_LineDocument)


def parse_feed_line(line: bytes) -> Webhook | str:
    """Return the webhook of a line; the position of the closing line.

    Raises ``AnswerInvalid``.
    """
    try:
        try:
            document = _DECODER.decode(line)
        except msgspec.ValidationError:
            # The message of this one names the member at fault.
            document = convert_document(msgspec.json.decode(line), _LineDocument)
        if document.end:
            return document.position
        parse_id(document.id)
    except (ValueError, RecursionError, BadRequest) as error:
        raise AnswerInvalid(f"a line of the feed cannot be read: {error}") from error
    return Webhook(
        document.position,
        document.id,
        document.key or "",
        bool(document.repeat),
        document.source or "",
        document.event or "",
        document.timestamp,
        document.came or "",
        document.headers,
        document.query or "",
        bytes(document.data) if document.raw is None else document.raw,
        document.via,
    )
