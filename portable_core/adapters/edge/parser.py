"""Bytes to requests: llhttp, with the limits that it lacks.

llhttp parses the syntax. It has no limit on the size of a head, keeps a line that has not ended,
and stops at ``Upgrade``; this module adds limits and continues.
"""

from __future__ import annotations

from typing import Protocol

import httptools

from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.request import Header, Rejected, Request

#: The most bytes that one call of the parser gets outside a body. They hold some 150 requests at
#: most, so that the reader of a connection can stop between two calls.
_SLICE = 4096

_VERSIONS = ("1.0", "1.1")


class Receiver(Protocol):
    """What a parser calls, in this order for each request."""

    def make_request(self) -> Request:
        """Return a request whose head has begun. Raises ``Rejected``."""
        ...

    def receive_head(self, request: Request) -> None:
        """Receive a request whose head is complete."""
        ...

    def receive_data(self, request: Request, data: bytes) -> None:
        """Receive a part of a body. Raises ``Rejected``."""
        ...

    def receive_end(self, request: Request) -> None:
        """Receive the end of a request."""
        ...


class RequestParser:
    """The parser of one connection. Errors are raised as ``Rejected``."""

    __slots__ = (
        "_fed",
        "_had_data",
        "_head_size",
        "_headers",
        "_limits",
        "_parser",
        "_receiver",
        "_resync",
        "_upgrading",
        "_url",
        "current",
        "in_head",
        "received",
    )

    def __init__(self, receiver: Receiver, limits: EdgeLimits) -> None:
        self._receiver = receiver
        self._limits = limits
        self.current: Request | None = None  # being received
        self.in_head = False
        self.received = 0  # bytes of the current body
        self._head_size = self._fed = 0
        self._upgrading = self._resync = self._had_data = False
        self._url: list[bytes] = []
        self._headers: list[Header] = []  # of the current request
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> bytes:
        """Parse the first part of ``data``; return the rest."""
        rest = b""
        if len(data) > _SLICE:
            size = _SLICE + self._count_missing()
            data, rest = data[:size], data[size:]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._go_on_after_upgrade()
            return data[stopped.args[0] :] + rest
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Rejected):
                raise error.__context__ from None
            raise Rejected(400, f"invalid HTTP: {error}") from error
        self._count_silence(len(data))
        return rest

    @property
    def head_size(self) -> int:
        """The bytes that are held of a head that is not complete."""
        return self._head_size if self.in_head else 0

    def _count_missing(self) -> int:
        """Return the bytes of the current body that are still to come, as far as that is known."""
        if self.current is None or self.in_head:
            return 0
        return max((self.current.length or 0) - self.received, 0)

    def _count_silence(self, size: int) -> None:
        """Bound what the parser keeps silently: an endless header, trailer or extension."""
        request = self.current
        if self.in_head or (request is not None and request.chunked and not self._had_data):
            self._fed += size
            if self._fed > 2 * self._limits.head_bytes:
                raise Rejected(431, "the head is too large")
        self._had_data = False

    def _go_on_after_upgrade(self) -> None:
        """Ignore ``Upgrade`` (RFC 9110, section 7.8): the parser has stopped after its head.

        Java's HttpClient sends ``Upgrade: h2c`` with each POST over plain HTTP. llhttp treats the
        body as another protocol, so a new parser continues after a head with the same framing.
        """
        self._parser = httptools.HttpRequestParser(self)
        request = self.current
        if not self._upgrading or request is None:
            return
        framing = b"content-length: %d" % (request.length or 0)
        if request.chunked:
            framing = b"transfer-encoding: chunked"
        version = 0 if request.http10 else 1
        kept = b"keep-alive" if request.keep else b"close"  # else nothing is parsed after the body
        head = b"POST / HTTP/1.%d\r\nhost: a\r\nconnection: %b\r\n%b\r\n\r\n"
        self._resync = True
        self._parser.feed_data(head % (version, kept, framing))
        self._resync = self._upgrading = False

    # -- the callbacks of llhttp ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._resync:
            return
        self.current = self._receiver.make_request()
        self._headers = self.current.headers
        self.in_head, self._fed = True, 0
        self._url.clear()
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        if not self._resync:
            self._url.append(url)
            self._head_size += len(url)
            if self._head_size > self._limits.head_bytes:
                self._reject_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resync or not self.in_head:  # a trailer is no header (RFC 9110, section 6.5.1)
            return
        self._headers.append((name.lower(), value.strip(b" \t")))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limits.head_bytes:
            self._reject_head()

    def _reject_head(self) -> None:
        raise Rejected(431, f"the head has more than {self._limits.head_bytes} bytes")

    def on_headers_complete(self) -> None:
        if self._resync:
            return
        request, parser = self._expect_current(), self._parser
        self.in_head = False
        if len(request.headers) > self._limits.headers:
            raise Rejected(431, f"more than {self._limits.headers} headers")
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise Rejected(505, f"HTTP/{version}: this server speaks HTTP/1.1")
        request.method = parser.get_method()
        request.target = b"".join(self._url)
        request.http10 = version == "1.0"
        request.keep = parser.should_keep_alive()
        request.read_framing()
        self._upgrading = parser.should_upgrade() and bool(request.length or request.chunked)
        self.received = 0
        self._receiver.receive_head(request)

    def on_body(self, data: bytes) -> None:
        self._had_data, self._fed = True, 0
        self.received += len(data)
        self._receiver.receive_data(self._expect_current(), data)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return  # it has a body, which the parser does not see
        request = self._expect_current()
        self.current = None
        self.received = 0
        request.complete = True
        self._receiver.receive_end(request)

    def _expect_current(self) -> Request:
        assert self.current is not None  # noqa: S101  # the parser calls in order
        return self.current
