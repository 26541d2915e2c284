"""The request that delivers a stored webhook: its headers, its query string, and the outcome.

Replays and ``forward`` send the same request: the payload byte for byte, the headers that were
kept, the query string, and headers that mark it as sent again (:func:`describe_delivery`). A
:data:`Connect` argument makes connections; a failure of a connection is an outcome, never an
exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import quote

from portable_core.payload_hash.coding import is_gzip
from portable_core.records import Record, format_id
from portable_core.sources.schemes import (
    STANDARD_ID_HEADER,
    STANDARD_SIGNATURE_HEADER,
    STANDARD_TIMESTAMP_HEADER,
    sign_standard,
)

#: Headers that belong to one connection or one message (RFC 9110, sections 7.6.1 and 8.6).
_OF_THE_CONNECTION = {
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}

_SIGNATURE_HEADERS = (STANDARD_ID_HEADER, STANDARD_TIMESTAMP_HEADER, STANDARD_SIGNATURE_HEADER)

#: The headers that mark a delivery begin with this; kept headers of that name are not sent.
MARK_PREFIX = "webhook-sync-"

#: The characters of a query string (RFC 3986, section 3.4), and those that senders use beside them.
_QUERY_CHARACTERS = "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

#: How a webhook is sent again.
Manner = Literal["forwarded", "replayed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request.

    - ``status``: the HTTP status; 0 without a response.
    - ``reason``: the phrase of the status, or the cause without a response.
    - ``retry_after``: the value of the header ``Retry-After``; empty if it is absent.
    """

    status: int
    reason: str = ""
    retry_after: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Connection(Protocol):
    """A connection to one address: no redirects, verified TLS certificates, no exceptions."""

    def post(self, headers: Mapping[str, str], body: bytes, query: str = "") -> Outcome:
        """Send a ``POST``; ``query`` is added to the query string of the address."""
        ...


#: Opens a connection to an ``http://`` or ``https://`` address, for one thread.
Connect = Callable[[str], AbstractContextManager[Connection]]


def make_headers(record: Record, secret: str, now_s: int) -> dict[str, str]:
    """Return the kept headers of ``record``, as they are sent again.

    With a ``secret``, a signature of Standard Webhooks made at ``now_s`` replaces a kept one. Its
    ``webhook-id`` is the key of the webhook: copies and retries of one webhook have the same.
    """
    kept = {
        name: value
        for name, value in record.meta.headers.items()
        if (name not in _OF_THE_CONNECTION or (name == "content-encoding" and is_gzip(value)))
        and not name.startswith(MARK_PREFIX)
        and _can_be_sent(value)
    }
    headers = {"content-type": "application/json", **kept}
    if not secret:
        return headers
    message_id = record.meta.key or kept.get(STANDARD_ID_HEADER, "")
    if not message_id or " " in message_id:
        message_id = f"msg_{format_id(record.pair)}"
    for name in _SIGNATURE_HEADERS:
        headers.pop(name, None)
    return {**headers, **sign_standard(secret, message_id, now_s, record.payload)}


def describe_delivery(record: Record, manner: Manner, attempt: int = 1) -> dict[str, str]:
    """Return the headers that mark a delivery, and identify its webhook.

    ``webhook-sync-key`` is absent for records without a key, ``webhook-sync-via`` for webhooks that
    were not read from a provider's delivery log. A source with characters beyond ASCII
    is percent-encoded.
    """
    marks = {
        "delivery": manner,
        "attempt": str(attempt),
        "id": format_id(record.pair),
        "key": record.meta.key,
        "source": quote(record.meta.source, safe="!$&'()*+,;=:@~"),
        "via": record.meta.via,
    }
    return {f"{MARK_PREFIX}{name}": text for name, text in marks.items() if text}


def quote_query(query: str) -> str:
    """Return a kept query string as it can be sent: other characters are percent-encoded.

    A kept query string has one character per byte.
    """
    return quote(query.encode("latin-1", "replace"), safe=_QUERY_CHARACTERS)


def _can_be_sent(value: str) -> bool:
    """Return whether ``value`` is a valid field value (RFC 9110, section 5.5).

    Valid are visible characters, spaces, tabs, and bytes beyond ASCII as Latin-1 (PEP 3333).
    """
    return all(char == "\t" or " " <= char <= "~" or "\x80" <= char <= "\xff" for char in value)
