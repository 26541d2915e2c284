"""A TCP proxy on loopback that cuts, slows down or holds back what goes through it.

Every connection carries one request, as those of webhook-sync do; its first line chooses the plan.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_NEVER = 2**62
_PIECE = 65_536
_WAITING = 4 * _PIECE  # read from one side and not yet written to the other, unless it is held


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one connection; without arguments nothing does.

    ``cut_request``, ``cut_answer``: after how many bytes of that direction both are ended, by a
    ``reset`` or in order. ``delay_s``: how much later bytes arrive, each way. ``rate``: bytes a
    second, each way. ``hold``: a chunked request goes on only when it is there as a whole, and so
    does a chunked answer.
    """

    cut_request: int = _NEVER
    cut_answer: int = _NEVER
    reset: bool = False
    delay_s: float = 0.0
    rate: int | None = None
    hold: bool = False


class Proxy:
    """Before the server on ``port``; ``plan`` may be exchanged at any time."""

    def __init__(self, port: int, plan: Callable[[bytes], Plan] = lambda line: Plan()) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = False
        self.plan = plan
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: Connections that were cut.
        self.cuts = 0
        #: Bytes that went on, by direction, over all connections.
        self.request_bytes = self.answer_bytes = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            try:
                head = client.recv(_PIECE)
                server = stack.enter_context(socket.socket())
                # Little of an answer is on its way, so that a server is held up where a client is.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
                server.connect(("127.0.0.1", self._server))
            except OSError:
                return
            plan = self.plan(head.partition(b"\r\n")[0])
            request = _Direction(client, server, plan, plan.cut_request)
            answer = _Direction(server, client, plan, plan.cut_answer)
            request.take(head)
            reset = False
            try:
                while not self._ended and not (request.ended and answer.ended):
                    _wait([request, answer])
                    for direction in (request, answer):
                        direction.read()
                        direction.write()
                        if direction.cut:
                            self.cuts += 1
                            reset = plan.reset
                            if not reset:
                                _finish(client, server)
                            return
            except OSError:
                reset = True  # one side is gone: so it is for the other
            finally:
                self.request_bytes += request.carried
                self.answer_bytes += answer.carried
                if reset:
                    for sock in (client, server):
                        linger = struct.pack("ii", 1, 0)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class _Direction:
    """Bytes from one socket to another; never blocks."""

    def __init__(
        self, source: socket.socket, target: socket.socket, plan: Plan, limit: int
    ) -> None:
        for sock in (source, target):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.source = source
        self.target = target
        self._plan = plan
        self._limit = limit
        self._data = bytearray()
        self._due = 0.0
        self._whole = not plan.hold
        self._finished = False  # the source has
        self.ended = False
        self.cut = limit <= 0
        self.carried = 0

    @property
    def wants_to_read(self) -> bool:
        return not self._finished and (not self._whole or len(self._data) < _WAITING)

    @property
    def wants_to_write(self) -> bool:
        return self._whole and not self.ended and bool(self._data or self._finished)

    @property
    def wait_s(self) -> float:
        """How long it has to wait before it may write."""
        return max(0.0, self._due - time.monotonic())

    def take(self, data: bytes) -> None:
        if not self._data:
            self._due = max(self._due, time.monotonic() + self._plan.delay_s)
        self._data += data
        self._finished = not data
        self._whole = self._whole or self._finished or _is_whole(self._data)

    def read(self) -> None:
        if self.wants_to_read:
            with contextlib.suppress(BlockingIOError):
                self.take(self.source.recv(_PIECE))

    def write(self) -> None:
        if not self.wants_to_write or self.wait_s:
            return
        if not self._data:
            self.ended = True
            self.target.shutdown(socket.SHUT_WR)
            return
        rate = self._plan.rate
        piece = self._data[: min(_PIECE, self._limit - self.carried, (rate or _PIECE) // 20 + 1)]
        try:
            sent = self.target.send(piece)
        except BlockingIOError:
            return
        del self._data[:sent]
        self.carried += sent
        self.cut = self.carried >= self._limit
        if rate is not None:
            self._due = time.monotonic() + sent / rate


def _finish(*sockets: socket.socket) -> None:
    """End connections in order: closing one with unread bytes would reset it."""
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 0.02
    while time.monotonic() < deadline:
        for sock in select.select(sockets, [], [], 0.005)[0]:
            with contextlib.suppress(OSError):
                sock.recv(_PIECE)


def _wait(directions: list[_Direction]) -> None:
    """Until one of them can go on, for a quarter of a second at most."""
    reading = [each.source for each in directions if each.wants_to_read]
    writing = [each.target for each in directions if each.wants_to_write and not each.wait_s]
    waits = [each.wait_s for each in directions if each.wants_to_write and each.wait_s]
    select.select(reading, writing, [], min([0.25, *waits]))


def _is_whole(message: bytes | bytearray) -> bool:
    """Whether a request or an answer has all of its chunked body, if it has one."""
    head, end, body = bytes(message).partition(b"\r\n\r\n")
    if not end:
        return False
    return b"transfer-encoding: chunked" not in head.lower() or body.endswith(b"0\r\n\r\n")
