"""One connection of HTTP/1.1 (RFC 9112): the order of its requests, its responses and its times."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from portable_core.adapters.edge.intake import Intake
from portable_core.adapters.edge.plain import Plain, read_plain
from portable_core.adapters.edge.request import Body, Rejected, Request
from portable_core.problems import PROBLEM_TYPE

if TYPE_CHECKING:
    from portable_core.adapters.edge.edge import Edge

_now = time.monotonic
_PROBLEM_HEADERS = ((b"content-type", PROBLEM_TYPE.encode()),)


class Connection(Intake):
    """A client's connection. Everything happens on the loop's thread."""

    __slots__ = ("_closing", "_drained", "_drains", "_going")

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self._closing = False  # the next response is the last one
        self._going = False
        self._drained = 0
        self._drains = False  # it is one of those that the edge counts

    # -- the transport -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(transport, self.edge.limits.high_water)
        self.edge.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.phase = "closed"
        if self._drains:
            self._drains = False
            self.edge.draining -= 1
        self.edge.remove(self)
        self.forget()
        for request in self.queue:
            self._end_body(request, "the client closed the connection")
            if not request.finished and request.on_gone is not None:
                request.on_gone()
            request.release()
        self.queue.clear()
        self._unread = b""

    def eof_received(self) -> bool:
        """Answer a whole request also where the client sends nothing more."""
        self.eof = True
        if self.phase in ("drain", "head") or (not self.queue and self.phase == "idle"):
            return False
        if self.current is not None and not self._unread:
            self.reject(self.current, 400, "the body ended before it was complete")
        return True

    def data_received(self, data: bytes) -> None:
        if self.phase == "idle":
            plain = read_plain(data, self.edge.limits, self.edge.max_body)
            if plain is not None:
                self._receive_plain(plain)
                return
        if self.phase == "drain":
            self._drained += len(data)
            if self._drained > self.edge.limits.drain_bytes:
                self.close()
        else:
            super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.queue and (sink := self.queue[0].data) is not None:
            pause = getattr(sink, "pause_writing", None)
            if pause is not None:
                pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held_back:
            self._held_back = False
            if not self.lost:
                self._go_on()
            return
        if self.queue and (sink := self.queue[0].data) is not None:
            resume = getattr(sink, "resume_writing", None)
            if resume is not None:
                resume()

    # -- requests and responses ----------------------------------------------------------------

    def make_request(self) -> Request:
        if self.phase in ("drain", "closed"):
            raise Rejected(400, "the connection is closed")
        if not self.queue:
            self.phase = "head"
        return Request(self)

    def _receive_plain(self, plain: Plain) -> None:
        """Receive a whole request on an idle connection."""
        request = Request(self)
        request.method = b"POST"
        request.target, request.headers, request.fields, body = plain
        request.length = len(body)
        request.complete = True
        self.queue.append(request)
        self._begun = request
        self.enter("answer")
        if not self.edge.handler.receive(request, body):
            request.body = Body(self.edge.max_body)
            request.body.add(body)
            self.begin(request)
            if not request.finished:
                self.complete(request)

    def complete(self, request: Request) -> None:
        self.enter("answer")
        if request.sink is not None:
            sink, request.sink = request.sink, None
            sink.end(None)
        elif not request.finished:
            try:
                self.edge.handler.complete(request)
            except Rejected as error:
                self._answer_rejected(request, error)

    def begin_stream(self) -> None:
        """Pass the body of the first request on as it comes."""
        self.enter("stream")

    def release(self, request: Request) -> bytes:
        """Return the body of a request, which is held no longer."""
        body, request.body = request.body, None
        if body is None:
            return b""
        data = body.read()
        body.close()
        return data

    def keeps(self, request: Request) -> bool:
        """Return whether the connection is kept after the response to this request."""
        if not request.keep or not request.complete or self._closing or self.edge.stopping:
            return False
        return not self.eof or self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether something came after the request that is being answered."""
        return len(self.queue) > 1 or self.current is not None or bool(self._unread)

    def answered(self, request: Request, *, keep: bool) -> None:
        """Continue with the next request after a response, or end."""
        if request.sink is not None or request.body is not None:
            self._end_body(request, "the request is answered")
        request.release()
        if self.queue and self.queue[0] is request:
            self.queue.popleft()
        if not keep:
            if request.complete:
                self.close()
            else:
                self._linger()
        elif self.blocked_since is None:
            if self.queue or self._unread or self._counted or self.eof or self.paused:
                self._go_on()
            else:  # nothing else has come
                self.enter("head" if self.current is not None else "idle")
        else:
            self._held_back = True
            self.pause()

    def _go_on(self) -> None:
        """Begin the next request, or wait for one."""
        if self._going:  # a response during the loop below, which continues
            return
        self._going = True
        try:
            while self.phase not in ("drain", "closed") and not self._held_back:
                if self.queue and self.queue[0] is not self._begun:
                    first = self.queue[0]
                    self.begin(first)
                    if first.complete and not first.finished:
                        self.complete(first)
                elif self._unread and not self._parsing and len(self.queue) <= 1:
                    self.parse(self._unread)
                else:
                    self._wait()
                    return
        finally:
            self._going = False

    def _wait(self) -> None:
        """Wait for the client or, if a request has begun, for its response."""
        if self.eof and self.current is not None and not self._unread:
            self.reject(self.current, 400, "the body ended before it was complete")
        elif not self.queue:
            self.enter("head" if self.current is not None else "idle")
            if self.eof:
                self.close()
        if self._counted:
            self.recount()
        self.resume()

    def _end_body(self, request: Request, why: str) -> None:
        if request.sink is not None:
            sink, request.sink = request.sink, None
            sink.end(why)
        if request.body is not None:
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
        if self.eof or self.edge.draining >= self.edge.limits.draining:
            self.close()
            return
        self.enter("drain")
        self._drains = True
        self.edge.draining += 1
        self._unread = b""
        self.read_again()
        self.forget()
        self.resume()
        self.shut_down()

    def close(self) -> None:
        """Close once what is written has been sent, for which the client has its time."""
        self.enter("closed")
        self.forget()
        super().close()

    def abort(self) -> None:
        self.enter("closed")
        self.forget()
        self.edge.remove(self)  # the loop calls connection_lost later
        super().abort()

    # -- time ----------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """End what takes too long. Called about once a second."""
        limits, waited = self.edge.limits, now - self.since
        match self.phase:
            case "idle" if waited > limits.idle_s:
                self.close()
            case "head" if waited > limits.head_s:
                self.reject(None, 408, "the head did not come in time")
            case "body" if waited > limits.body_s + self._parser.received / limits.body_rate:
                self.reject(self.current, 408, "the body did not come in time")
            case "stream":
                self._check_stream(now, waited)
            case "drain" if waited > limits.drain_s:
                self.close()
            case "closed" if waited > limits.write_s:
                self.abort()
        if self.blocked_since is not None and now - self.blocked_since > limits.write_s:
            self.abort()

    def _check_stream(self, now: float, waited: float) -> None:
        if self._moved:
            self._moved, self.since = False, now
        elif waited > self.edge.limits.stream_idle_s and not self.paused and self.current:
            self._end_body(self.current, "the body did not come in time")
