"""All connections of one process: listening, limits that they share, and the stop."""

from __future__ import annotations

import asyncio
import heapq
import logging
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from email.utils import formatdate
from typing import Protocol

from portable_core.adapters.edge.budget import BodyBudget
from portable_core.adapters.edge.channel import Channel
from portable_core.adapters.edge.connection import Connection
from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.request import STATUS_LINES, Header, Request

logger = logging.getLogger(__name__)

#: Phases whose connections make room for new ones: the client is waited for, nothing is promised.
_MAKES_ROOM = ("drain", "idle", "head", "body")
#: How many make room at a time, as a part of the limit: one look at all connections serves many.
_PART = 64

_BACKLOG = 4096

_REPORT_S = 60.0

#: How many different beginnings of responses are kept: a source has one or two.
_MOST_HEADS = 64

#: How many connections are checked in one turn of the loop.
_CHECKED = 500
#: For how long a connection whose request comes in tiny pieces is not read.
_MOST_DOZE_S = 5.0


class Handler(Protocol):
    """The application behind the edge. All methods are called on the loop's thread."""

    def receive(self, request: Request, body: bytes) -> bool:
        """Handle a small request that has come whole; return False if ``begin`` has to do it."""
        ...

    def begin(self, request: Request) -> None:
        """Handle a head: call ``request.collect`` or ``stream``, or raise ``Rejected``."""
        ...

    def complete(self, request: Request) -> None:
        """Handle a request whose collected body is whole."""
        ...

    def describe(self, status: int, detail: str) -> bytes:
        """Return the problem document of a request that the edge answers itself."""
        ...


class Edge:
    """The server. Made and used on the loop's thread."""

    def __init__(self, handler: Handler, limits: EdgeLimits, max_body: int) -> None:
        self.handler = handler
        self.limits = limits
        self.max_body = max_body
        self.connections: set[Connection] = set()
        self.stopping = False
        self._date = b""
        #: The beginnings of the responses of this second.
        self._heads: dict[tuple[int, tuple[Header, ...]], bytes] = {}
        self.budget = BodyBudget(limits)
        most = limits.spooled_bytes
        self.spool = BodyBudget(replace(limits, paused_bytes=most, held_bytes=most))
        self.draining = 0
        self._reported = 0
        self._report_at = 0.0
        self._dozing: list[tuple[float, Channel]] = []
        self._servers: list[asyncio.Server] = []
        self._ticker: asyncio.TimerHandle | None = None

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these sockets."""
        loop = asyncio.get_running_loop()
        self._tick(loop)
        for sock in sockets:
            server = await loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG)
            self._servers.append(server)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        self._heads.clear()
        now = time.monotonic()
        due = [connection for until, connection in self._dozing if until <= now]
        self._dozing = [each for each in self._dozing if each[0] > now]
        for connection in due:
            connection.wake()
        self._report(now)
        self._check(loop, list(self.connections))
        self._ticker = loop.call_later(1.0, self._tick, loop)

    def format_head(self, status: int, headers: Iterable[Header]) -> bytes:
        """Return the status line, the date and these headers."""
        given = tuple(headers)
        head = self._heads.get((status, given))
        if head is None:
            lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._date]
            lines += [b"%b: %b\r\n" % header for header in given]
            head = b"".join(lines)
            if len(self._heads) < _MOST_HEADS:
                self._heads[status, given] = head
        return head

    def _report(self, now: float) -> None:
        """Log how many requests were ended to make room, once a minute."""
        ended = self.budget.ended + self.spool.ended
        count = ended - self._reported
        if count and now >= self._report_at:
            self._reported, self._report_at = ended, now + _REPORT_S
            logger.warning(
                "%d unfinished requests were answered 503: together they held more than "
                "BUFFER_BYTES, or 8 times as much in files. Raise it, or find out who sends so "
                "slowly.",
                count,
            )

    def _check(self, loop: asyncio.AbstractEventLoop, connections: list[Connection]) -> None:
        """Check some connections, and the others in later turns of the loop."""
        now = time.monotonic()
        for connection in connections[-_CHECKED:]:
            connection.check(now)
        del connections[-_CHECKED:]
        if connections:
            loop.call_soon(self._check, loop, connections)

    def add(self, connection: Connection) -> None:
        """Add a connection; end others if there are too many."""
        self.connections.add(connection)
        if len(self.connections) > self.limits.connections:
            self._make_room()

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def _make_room(self) -> None:
        """End those whose clients have been waited for longest."""
        waiting = [each for each in self.connections if each.phase in _MAKES_ROOM]
        count = max(1, self.limits.connections // _PART)
        for each in heapq.nsmallest(count, waiting, key=lambda each: each.since):
            each.abort()

    def doze(self, connection: Channel, seconds: float) -> None:
        """Wake a connection after so many seconds, some at most."""
        self._dozing.append((time.monotonic() + min(seconds, _MOST_DOZE_S), connection))

    def stop(self) -> None:
        """From now on every response says ``Connection: close``; end idle connections."""
        self.stopping = True
        for connection in list(self.connections):
            if connection.phase == "idle":
                connection.close()

    async def close(self, within_s: float) -> None:
        """Stop listening, wait for requests under way for so long, then end all connections."""
        for server in self._servers:
            server.close()
        until = time.monotonic() + within_s
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self._ticker is not None:
            self._ticker.cancel()
        for connection in list(self.connections):
            connection.abort()
