"""One connection of HTTP/1.1 (RFC 9112), parsed by llhttp.

The phases of a connection, by what it waits for:

- ``idle``: nothing of a request has come.
- ``head``: a head has begun.
- ``body``: a body is being collected.
- ``stream``: a body is passed on as it comes.
- ``answer``: the request is whole, its response is not.
- ``drain``: the response is sent and writing is shut down; further bytes are dropped, so that a
  client that still sends can read the response.
- ``closed``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import httptools

from portable_core.adapters.edge.request import Body, Rejected, Request
from portable_core.problems import PROBLEM_TYPE

if TYPE_CHECKING:
    from portable_core.adapters.edge.edge import Edge

_now = time.monotonic
_RESET = struct.pack("ii", 1, 0)  # linger for no time
_PROBLEM_HEADERS = ((b"content-type", PROBLEM_TYPE.encode()),)


class Connection(asyncio.Protocol):
    """A client's connection. Everything happens on the loop's thread."""

    __slots__ = (
        "_blocked_since",
        "_closing",
        "_deaf",
        "_drained",
        "_fed",
        "_had_data",
        "_head_size",
        "_held_back",
        "_in_head",
        "_parser",
        "_paused",
        "_resync",
        "_transport",
        "_upgrading",
        "_url",
        "current",
        "edge",
        "eof",
        "lost",
        "phase",
        "queue",
        "received",
        "since",
    )

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.phase = "idle"
        self.since = _now()  # of the phase
        self.received = 0  # bytes of the current body
        self.current: Request | None = None  # being received
        self.queue: deque[Request] = deque()  # received or being received; the first is answered
        self.lost = self.eof = False
        self._closing = self._paused = self._deaf = False
        self._drained = 0
        self._blocked_since: float | None = None
        self._head_size = self._fed = 0
        self._in_head = self._upgrading = self._resync = False
        self._had_data = False
        self._held_back = False  # the next request waits until the client has read responses
        self._url: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport

    # -- the transport -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101  # a stream's
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(self.edge.limits.high_water)
        self.edge.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.phase = "closed"
        self.edge.remove(self)
        for request in self.queue:
            self._end_body(request, "the client closed the connection")
            if not request.finished and request.on_gone is not None:
                request.on_gone()
        self.queue.clear()
        self.current = None

    def eof_received(self) -> bool:
        """Answer a whole request also where the client sends nothing more."""
        self.eof = True
        if self.phase in ("drain", "head") or (not self.queue and self.phase == "idle"):
            return False
        if self.current is not None and not self.current.complete:
            self.reject(self.current, 400, "the body ended before it was complete")
        return True

    def pause_writing(self) -> None:
        self._blocked_since = _now()
        if self.queue and (sink := self.queue[0].data) is not None:
            pause = getattr(sink, "pause_writing", None)
            if pause is not None:
                pause()

    def resume_writing(self) -> None:
        self._blocked_since = None
        if self._held_back:
            self._held_back = False
            if not self.lost:
                self._go_on()
            return
        if self.queue and (sink := self.queue[0].data) is not None:
            resume = getattr(sink, "resume_writing", None)
            if resume is not None:
                resume()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """End with a reset, which is seen whatever was announced."""
        if (sock := self._transport.get_extra_info("socket")) is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def describe_ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the addresses of the peer and of this side."""
        peer = self._transport.get_extra_info("peername") or ("", 0)
        here = self._transport.get_extra_info("sockname") or ("", 0)
        return (str(peer[0]), int(peer[1])), (str(here[0]), int(here[1]))

    def data_received(self, data: bytes) -> None:
        if self.phase == "drain":
            self._drained += len(data)
            if self._drained > self.edge.limits.drain_bytes:
                self.close()
            return
        if self.phase == "closed" or self._deaf:
            return
        if self.phase == "idle":
            self._enter("head")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._go_on_after_upgrade(data[stopped.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._reject_invalid(error)
            return
        if len(self.queue) > 1:
            self.pause()
        self._count_silence(len(data))

    def _count_silence(self, size: int) -> None:
        """Bound what the parser keeps silently: an endless header, trailer or extension."""
        request = self.current
        if self._in_head or (request is not None and request.chunked and not self._had_data):
            self._fed += size
            if self._fed > 2 * self.edge.limits.head_bytes:
                self.reject(None if self._in_head else request, 431, "the head is too large")
        self._had_data = False

    def _reject_invalid(self, error: Exception) -> None:
        if self.phase in ("drain", "closed"):
            return
        cause = error.__context__
        if isinstance(cause, Rejected):
            self.reject(self.current, cause.status, str(cause))
        else:
            self.reject(self.current, 400, f"invalid HTTP: {error}")

    def _go_on_after_upgrade(self, rest: bytes) -> None:
        """Ignore ``Upgrade`` (RFC 9110, section 7.8): the parser has stopped after its head.

        Java's HttpClient sends ``Upgrade: h2c`` with each POST over plain HTTP. llhttp takes the
        body for another protocol, so a new parser continues after a head with the same framing.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._upgrading and self.current is not None:
            length = self.current.length or 0
            framing = b"content-length: %d" % length
            if self.current.chunked:
                framing = b"transfer-encoding: chunked"
            version = 0 if self.current.http10 else 1
            self._resync = True
            head = b"POST / HTTP/1.%d\r\nhost: a\r\n%b\r\n\r\n" % (version, framing)
            self._parser.feed_data(head)
            self._resync = self._upgrading = False
        if rest and self.phase not in ("drain", "closed"):
            self.data_received(rest)

    # -- the parser's callbacks ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._resync:
            return
        if self.phase in ("drain", "closed"):
            raise Rejected(400, "the connection is closed")
        if len(self.queue) >= self.edge.limits.pipelined:
            raise Rejected(400, "too many pipelined requests")
        self._in_head, self._fed = True, 0
        self.current = Request(self)
        self._url.clear()
        self._head_size = 0
        if not self.queue:
            self.phase = "head"

    def on_url(self, url: bytes) -> None:
        if not self._resync:
            self._url.append(url)
            self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resync or not self._in_head:  # a trailer is no header (RFC 9110, section 6.5.1)
            return
        request = self._expect_current()
        self._count(len(name) + len(value) + 4)
        request.headers.append((name.lower(), value.strip(b" \t")))
        if len(request.headers) > self.edge.limits.headers:
            raise Rejected(431, f"more than {self.edge.limits.headers} headers")

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self.edge.limits.head_bytes:
            raise Rejected(431, f"the head has more than {self.edge.limits.head_bytes} bytes")

    def on_headers_complete(self) -> None:
        if self._resync:
            return
        request, parser = self._expect_current(), self._parser
        self._in_head = False
        request.method = parser.get_method()
        request.target = b"".join(self._url)
        request.http10 = parser.get_http_version() == "1.0"
        request.keep = parser.should_keep_alive()
        request.read_framing()
        self._upgrading = parser.should_upgrade() and bool(request.length or request.chunked)
        self.queue.append(request)
        self.received = 0
        if len(self.queue) == 1 and not self._held_back:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        self._enter("body")
        try:
            self.edge.handler.begin(request)
        except Rejected as error:
            self.reject(request, error.status, str(error))

    def on_body(self, data: bytes) -> None:
        request = self._expect_current()
        self._had_data, self._fed = True, 0
        if request.finished:
            return
        self.received += len(data)
        if request.sink is not None:
            request.sink.data(data)
            return
        if request.body is None:  # pipelined: the handler has not seen the head yet
            request.body = Body(self.edge.max_body)
        before = request.body.held
        request.body.add(data)
        self.edge.hold(self, request.body.held - before)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return  # it has a body, which the parser does not see
        request = self._expect_current()
        self.current = None
        request.complete = True
        self.received = 0
        if self.queue and self.queue[0] is request and not self._held_back:
            self._enter("answer")
            self._complete(request)

    def _expect_current(self) -> Request:
        assert self.current is not None  # noqa: S101  # the parser calls in order
        return self.current

    def _complete(self, request: Request) -> None:
        if request.sink is not None:
            sink, request.sink = request.sink, None
            sink.end(None)
        elif not request.finished:
            try:
                self.edge.handler.complete(request)
            except Rejected as error:
                self._answer_rejected(request, error)

    # -- after a response ----------------------------------------------------------------------

    def begin_stream(self) -> None:
        """Pass the body of the first request on as it comes."""
        self._enter("stream")

    def release(self, request: Request) -> bytes:
        """Return the body of a request, which is held no longer."""
        body, request.body = request.body, None
        if body is None:
            return b""
        self.edge.hold(self, -body.held)
        data = body.read()
        body.close()
        return data

    def keeps(self, request: Request) -> bool:
        """Return whether the connection is kept after the response to this request."""
        ending = self.eof or self._closing or self.edge.stopping
        return request.keep and request.complete and not ending

    def answered(self, request: Request, *, keep: bool) -> None:
        """Continue with the next request after a response, or end."""
        self._end_body(request, "the request is answered")
        if self.queue and self.queue[0] is request:
            self.queue.popleft()
        if not keep:
            if request.complete:
                self.close()
            else:
                self._linger()
        elif self._blocked_since is None:
            self._go_on()
        else:
            self._held_back = True
            self.pause()

    def _go_on(self) -> None:
        """Begin the next request, or wait for one."""
        if not self.queue:
            self._enter("head" if self.current is not None else "idle")
            self.resume()
            if self.eof:
                self.close()
            return
        following = self.queue[0]
        if len(self.queue) == 1:
            self.resume()
        self._begin(following)
        if following.complete and not following.finished:
            self._enter("answer")
            self._complete(following)

    def _end_body(self, request: Request, why: str) -> None:
        if request.sink is not None:
            sink, request.sink = request.sink, None
            sink.end(why)
        if request.body is not None:
            self.edge.hold(self, -request.body.held)
            request.body.close()
            request.body = None

    def reject(self, request: Request | None, status: int, detail: str) -> None:
        """Answer in place of the handler and close; the rest of the request is drained.

        A request before it that is whole gets its response first, and nothing after it any.
        """
        self._closing = True
        first = self.queue[0] if self.queue else None
        if first is not None and first.complete and not first.finished and first is not request:
            self._deaf = True
            return
        waiting = request is not None and request in self.queue and self.queue[0] is not request
        if request is not None and request.started:
            self.abort()
            return
        if request is None or waiting:
            request = Request(self)
        request.keep = request.complete = False
        if request not in self.queue:
            self.queue.appendleft(request)
        request.respond(status, _PROBLEM_HEADERS, self.edge.handler.describe(status, detail))

    def _answer_rejected(self, request: Request, error: Rejected) -> None:
        """Answer in place of the handler; the request is whole, so the connection may be kept."""
        detail = self.edge.handler.describe(error.status, str(error))
        request.respond(error.status, _PROBLEM_HEADERS, detail)

    def _linger(self) -> None:
        """Shut down writing, and read until the client has seen the response."""
        if self.eof:
            self.close()
            return
        self._enter("drain")
        self.resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.since = _now()

    def close(self) -> None:
        """Close once what is written has been sent, for which the client has its time."""
        self._enter("closed")
        self._transport.close()

    def pause(self) -> None:
        """Stop reading from the client."""
        if not self._paused and not self.lost:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again."""
        if self._paused and not self.lost and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # -- time ----------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """End what takes too long. Called about once a second."""
        limits, waited = self.edge.limits, now - self.since
        match self.phase:
            case "idle" if waited > limits.idle_s:
                self.close()
            case "head" if waited > limits.head_s:
                self.reject(None, 408, "the head did not come in time")
            case "body" if waited > limits.body_s + self.received / limits.body_rate:
                self.reject(self.current, 408, "the body did not come in time")
            case "stream":
                self._check_stream(now, waited)
            case "drain" if waited > limits.drain_s:
                self.close()
            case "closed" if waited > limits.write_s:
                self.abort()
        if self._blocked_since is not None and now - self._blocked_since > limits.write_s:
            self.abort()

    def _check_stream(self, now: float, waited: float) -> None:
        if self.received:  # something came since the last look
            self.received, self.since = 0, now
        elif waited > self.edge.limits.stream_idle_s and not self._paused and self.current:
            self._end_body(self.current, "the body did not come in time")
