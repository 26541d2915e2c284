"""The part of a request that decides about a webhook, in the form that both servers fill in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from portable_core.errors import MalformedPayload
from portable_core.payload_hash.coding import is_gzip, unpack
from portable_core.payload_hash.pointers import ABSENT

#: All values of a header, in order, by its name in any case; an empty list for an absent header.
Headers = Callable[[str], list[str]]

#: The most parameters of a query string or fields of a form that are read.
MAX_FIELDS = 1000

#: Larger bodies are not parsed for the values in them: this happens before a signature is checked,
#: and a parsed body has up to twenty times the size.
MAX_PARSED_BYTES = 2**20

FORM = "application/x-www-form-urlencoded"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder(float_hook=str).decode


class SourceRequest:
    """A request to a source's address. It is not changed.

    - ``headers``: values have a character a byte.
    - ``body``: as it was sent, compressed or not.
    - ``query``: the query string, with a character a byte.
    - ``url``: the address to which the sender sent the request; empty if it is unknown.
    """

    def __init__(
        self,
        headers: Headers,
        body: bytes = b"",
        method: str = "POST",
        query: str = "",
        url: str = "",
    ) -> None:
        # A frozen dataclass is three times as slow to make, once for each webhook.
        self.headers = headers
        self.body = body
        self.method = method
        self.query = query
        self.url = url

    @cached_property
    def content(self) -> bytes:
        """The body without gzip; nothing if it is too large to be parsed, or malformed."""
        if len(self.body) > MAX_PARSED_BYTES:
            return b""
        if not is_gzip(next(iter(self.headers("Content-Encoding")), "")):
            return self.body
        try:
            return unpack(self.body, MAX_PARSED_BYTES)
        except MalformedPayload:
            return b""

    @cached_property
    def document(self) -> Any:
        """The JSON value of the content; ``ABSENT`` if it has none. Floats are their text."""
        if not self.content:
            return ABSENT
        try:
            return _decode(self.content.removeprefix(_BYTE_ORDER_MARK))
        except (ValueError, RecursionError):
            return ABSENT

    @cached_property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The parameters of the query string."""
        return _read_fields(self.query)

    @cached_property
    def fields(self) -> Sequence[tuple[str, str]]:
        """The fields of content that is a form, in order; values are decoded as UTF-8."""
        kind = next(iter(self.headers("Content-Type")), "").partition(";")[0].strip().lower()
        return _read_fields(self.content.decode("latin-1")) if kind == FORM else ()


def _read_fields(text: str) -> Sequence[tuple[str, str]]:
    if not text:
        return ()
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return ()
