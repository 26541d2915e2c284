"""One request and its response, on the loop's thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from portable_core.adapters.edge.connection import Connection

Header = tuple[bytes, bytes]

#: Bodies larger than this wait in a temporary file, not in memory.
SMALL_BYTES = 2**20

#: Headers that say something of the body or the connection.
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"expect", b"host", b"content-type"))

#: The first line of a response, by its status.
STATUS_LINES = {s.value: b"HTTP/1.1 %d %s\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}


class Rejected(Exception):
    """A request that the edge answers itself, before it reaches the application."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Sink(Protocol):
    """Takes the body of a request as it comes, and learns about the client's side."""

    def data(self, data: bytes) -> None:
        """Receive a part of the body."""
        ...

    def end(self, error: str | None) -> None:
        """Note that the body is complete, or will not be because of ``error``."""
        ...

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        ...

    def resume_writing(self) -> None: ...


class Body:
    """A collected body: in memory while it is small, then in a temporary file."""

    __slots__ = ("_file", "_parts", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None

    def add(self, data: bytes) -> None:
        """Add a part. Raises ``Rejected`` beyond the limit, or if no file can be written."""
        self.size += len(data)
        if self.size > self.limit:
            raise Rejected(413, f"the body is larger than {self.limit} bytes")
        if self._file is None and self.size <= SMALL_BYTES:
            self._parts.append(data)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
                self._file.writelines(self._parts)
                self._parts.clear()
            self._file.write(data)
        except OSError as error:
            raise Rejected(503, f"no temporary file for a large body: {error}") from error

    @property
    def held(self) -> int:
        """The bytes in memory."""
        return self.size if self._file is None else 0

    @property
    def large(self) -> bool:
        """Whether the body is in a file."""
        return self._file is not None

    def read(self) -> bytes:
        """Return the whole body; a large one is read from its file, and may take a moment."""
        if self._file is None:
            return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Drop the body."""
        self._parts = []
        if self._file is not None:
            self._file.close()


class Request:
    """A request: its head at first, then its body; and the means to respond.

    - ``headers``: (name in lower case, value) in order, duplicates included, bytes as received.
    - ``fields``: the last value of each header by name; made when it is first read.
    - ``complete``: the body has come whole. ``started``, ``finished``: the response has.
    - ``on_gone``: called if the client goes away before the response is finished.
    - ``data``: the handler's own.
    """

    __slots__ = (
        "_chunked_response",
        "_fields",
        "body",
        "chunked",
        "complete",
        "connection",
        "data",
        "expect",
        "finished",
        "headers",
        "http10",
        "keep",
        "length",
        "method",
        "on_gone",
        "sink",
        "started",
        "target",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = self.target = b""
        self.http10 = False
        self.keep = True
        self.headers: list[Header] = []
        self._fields: dict[bytes, bytes] | None = None
        self.length: int | None = None
        self.chunked = self.expect = False
        self.body: Body | None = None
        self.sink: Sink | None = None
        self.complete = self.started = self.finished = False
        self._chunked_response = False
        self.on_gone: Callable[[], None] | None = None
        self.data: Any = None

    @property
    def fields(self) -> dict[bytes, bytes]:
        if self._fields is None:
            self._fields = dict(self.headers)
        return self._fields

    @fields.setter
    def fields(self, fields: dict[bytes, bytes]) -> None:
        self._fields = fields

    def read_framing(self) -> None:
        """Read what the head says of its body and the connection. Raises ``Rejected``."""
        hosts = types = 0
        for name, value in self.headers:
            if name not in _FRAMING:
                continue
            if name == b"content-length":
                self.length = int(value)  # the parser has checked it
            elif name == b"transfer-encoding":
                self.chunked = True
                if value.lower() != b"chunked":
                    raise Rejected(400, "Transfer-Encoding is not chunked")
            elif name == b"expect":
                self.expect = value.lower() == b"100-continue" and not self.http10
            elif name == b"host":
                hosts += 1
            elif name == b"content-type":
                types += 1
        if self.method == b"CONNECT":
            raise Rejected(405, "this server is no proxy")
        if self.chunked and self.http10:
            raise Rejected(400, "HTTP/1.0 has no Transfer-Encoding")
        if hosts > 1 or (not hosts and not self.http10):
            raise Rejected(400, "exactly one Host header is needed")
        if types > 1:
            raise Rejected(400, "more than one Content-Type header")

    # -- the body ------------------------------------------------------------------------------

    def collect(self, limit: int) -> None:
        """Collect the body, of at most so many bytes. Raises ``Rejected`` if it announces more."""
        if self.length is not None and self.length > limit:
            raise Rejected(413, f"the body has {self.length} bytes, more than {limit}")
        if self.body is None:
            self.body = Body(limit)
        elif self.body.size > limit:
            raise Rejected(413, f"the body is larger than {limit} bytes")
        self.body.limit = limit
        self._send_continue()

    def stream(self, sink: Sink) -> None:
        """Pass the body to ``sink`` as it comes."""
        if self.body is not None:  # it was pipelined behind another request
            data = self.connection.release(self)
            if data:
                sink.data(data)
        self.sink = sink
        self.connection.begin_stream()
        self._send_continue()

    def _send_continue(self) -> None:
        if self.expect and not self.complete and (self.length or self.chunked):
            self.expect = False
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def release(self) -> None:
        """Drop what refers back to this request, so that memory is free without a collection."""
        self.data = self.on_gone = None

    # -- the response --------------------------------------------------------------------------

    def respond(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send a whole response in one write."""
        connection = self.connection
        if self.finished or connection.lost:
            self.finished = True
            return
        head = connection.edge.format_head(status, headers)
        length = b"content-length: %d\r\n" % len(body)
        if status == 204:  # RFC 9110, section 8.6
            length = b""
        keep = connection.keeps(self)
        if not keep:
            length += b"connection: close\r\n"
        elif self.http10:
            length += b"connection: keep-alive\r\n"
        if self.method == b"HEAD":
            body = b""
        self.started = self.finished = True
        connection.write(b"%b%b\r\n%b" % (head, length, body))
        connection.answered(self, keep=keep)

    def start(self, status: int, headers: Iterable[Header]) -> None:
        """Begin a streamed response: chunked, unless it has a length or the client is HTTP/1.0."""
        if self.finished:  # the edge has answered, or the client is gone
            return
        given = list(headers)
        parts = [self.connection.edge.format_head(status, given)]
        bodiless = self.method == b"HEAD" or status in (204, 304)
        if not bodiless and all(name.lower() != b"content-length" for name, _ in given):
            if self.http10:
                self.keep = False
            else:
                self._chunked_response = True
                parts.append(b"transfer-encoding: chunked\r\n")
        if not self.connection.keeps(self):
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self.started = True
        self.connection.write(b"".join(parts))

    def write(self, data: bytes) -> None:
        """Send a part of a streamed response."""
        if data and self.method != b"HEAD" and not self.finished:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked_response else data
            self.connection.write(chunk)

    def finish(self, *, cut: bool = False) -> None:
        """End a streamed response; ``cut`` ends it so that the client sees it is not whole."""
        if self.finished:
            return
        self.finished = True
        connection = self.connection
        if connection.lost:
            return
        if cut:
            connection.abort()
            return
        if self._chunked_response:
            connection.write(b"0\r\n\r\n")
        connection.answered(self, keep=connection.keeps(self))
