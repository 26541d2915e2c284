"""The requests that come in on one connection, and what they may cost while they are not whole.

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

import time
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from portable_core.adapters.edge.budget import SMALL_BYTES
from portable_core.adapters.edge.channel import Channel
from portable_core.adapters.edge.parser import RequestParser
from portable_core.adapters.edge.request import Body, Rejected, Request

if TYPE_CHECKING:
    from portable_core.adapters.edge.edge import Edge

_now = time.monotonic


class Intake(Channel):
    """Parses what comes in into a queue of requests, of which the first is answered."""

    __slots__ = (
        "_ahead",
        "_begun",
        "_counted",
        "_deaf",
        "_held_back",
        "_moved",
        "_parser",
        "_parsing",
        "_tiny",
        "_unread",
        "edge",
        "eof",
        "phase",
        "queue",
        "since",
    )

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self.edge = edge
        self.phase = "idle"
        self.since = _now()  # of the phase
        self.queue: deque[Request] = deque()  # received or being received
        self.eof = False
        self._parser = RequestParser(self, edge.limits)
        self._parsing = False
        self._begun: Request | None = None  # the last request that the handler has seen
        self._deaf = False  # nothing is received any more
        self._held_back = False  # the next request waits until the client has read responses
        self._moved = False  # part of a streamed body has come since the last check
        self._unread = b""  # what came behind too many pipelined requests
        self._ahead = 0  # bytes of complete bodies behind the first request
        self._counted = False  # the budget knows an unfinished request
        self._tiny = 0  # reads of a few bytes, since the request has begun

    # -- for the class that answers ------------------------------------------------------------

    @abstractmethod
    def make_request(self) -> Request:
        """Return a request whose head has begun. Raises ``Rejected``."""

    @abstractmethod
    def complete(self, request: Request) -> None:
        """Handle the first request, which is whole."""

    @abstractmethod
    def reject(self, request: Request | None, status: int, detail: str) -> None:
        """Answer in place of the handler, and close."""

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase = phase
        self.since = _now()

    # -- what comes in -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread += data
            self.recount()
        elif self.phase != "closed" and not self._deaf:
            self.parse(data)
            if self.current is not None or self._unread or self._counted:
                self._count(len(data))

    def parse(self, data: bytes) -> None:
        """Parse what has come, except for what follows too many pipelined requests."""
        most, ahead = self.edge.limits.pipelined, self.edge.limits.ahead_bytes
        self._unread = b""
        self._parsing = True
        try:
            while data and len(self.queue) < most and not self._deaf and self._ahead < ahead:
                if self.phase in ("drain", "closed"):
                    return
                if self.phase == "idle":
                    self.enter("head")
                data = self._parser.feed(data)
        except Rejected as error:
            if self.phase not in ("drain", "closed"):
                self.reject(self.current, error.status, str(error))
            return
        finally:
            self._parsing = False
        self._unread = b"" if self._deaf else data
        if len(self.queue) > 1:
            self.pause()

    # -- what an unfinished request may cost ---------------------------------------------------

    def _count(self, size: int) -> None:
        """Count what a read of ``size`` bytes has brought of a request that is not complete."""
        self.recount()
        limits = self.edge.limits
        if size < limits.tiny_bytes and self._counted:
            self._tiny += 1
            if self._tiny > limits.tiny_reads:
                self.doze()
                self.edge.doze(self, self._tiny - limits.tiny_reads)

    def recount(self) -> None:
        """Report to the budget what is held of a request that is not complete."""
        request, parser = self.current, self._parser
        streams = self.phase in ("stream", "drain", "closed")
        if streams or self._deaf or (request is None and not self._unread):
            self.forget()
            return
        held = len(self._unread) + self._ahead + parser.head_size
        large = held > SMALL_BYTES
        if request is not None and request.body is not None:
            held += request.body.held
            large = large or (request.length or request.body.size) > SMALL_BYTES
        self._counted = True
        self.edge.budget.note(self, held, large=large)
        if self._counted and request is not None and request.body is not None:
            spooled = request.body.size - request.body.held
            if spooled:
                self.edge.spool.note(self, spooled, large=False)

    def forget(self) -> None:
        """Note that no request is unfinished."""
        if self._counted:
            self._counted = False
            self._tiny = 0
            self.edge.budget.forget(self)
            self.edge.spool.forget(self)

    def resume(self) -> None:
        """Read again, unless enough waits for the first response."""
        if not self._unread and len(self.queue) <= 1:
            super().resume()

    def give_up(self) -> None:
        self.forget()
        self._unread = b""
        self.reject(self.current, 503, "too many requests are unfinished; send the webhook again")
        if not self._deaf:
            self.close()  # without reading the rest

    # -- what the parser calls -----------------------------------------------------------------

    @property
    def current(self) -> Request | None:
        """The request that is being received."""
        return self._parser.current

    def receive_head(self, request: Request) -> None:
        self.queue.append(request)
        if len(self.queue) == 1 and not self._held_back:
            self.begin(request)

    def begin(self, request: Request) -> None:
        """Pass the head of the first request to the handler."""
        self._begun = request
        if self._ahead and request.complete and request.body is not None:
            self._ahead -= request.body.size
        self.enter("body")
        try:
            self.edge.handler.begin(request)
        except Rejected as error:
            self.reject(request, error.status, str(error))

    def receive_data(self, request: Request, data: bytes) -> None:
        if request.finished:
            return
        if request.sink is not None:
            self._moved = True
            request.sink.data(data)
            return
        if request.body is None:  # pipelined: the handler has not seen the head yet
            request.body = Body(self.edge.max_body)
        request.body.add(data)

    def receive_end(self, request: Request) -> None:
        if self.queue and self.queue[0] is request is self._begun:
            self.complete(request)
        elif request.body is not None:
            self._ahead += request.body.size
