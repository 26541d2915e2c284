"""One connection through the proxy: two directions, which a plan cuts, slows down or holds back."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Self

_NEVER = 2**62
PIECE = 65_536
_WAITING = 4 * PIECE  # read from one side and not yet written to the other, unless held

#: Closing a socket with this option sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of a connection; by default none.

    - ``refuse``: the connection is reset once it is accepted.
    - ``cut_request``, ``cut_answer``: the number of bytes of that direction after which the
      connection ends, by RST if ``reset`` is set, else by FIN.
    - ``delay_s``: the delay of each byte, each way; ``rate``: bytes a second, each way.
    - ``hold``: a chunked request is forwarded only when it is complete; a chunked answer likewise.
    - ``silent``: half-open; bytes of both sides are read and dropped, and no side gets an error.
    """

    refuse: bool = False
    cut_request: int = _NEVER
    cut_answer: int = _NEVER
    reset: bool = False
    delay_s: float = 0.0
    rate: int | None = None
    hold: bool = False
    silent: bool = False


@dataclass(slots=True)
class ProxyCounts:
    """Counts of what passed through a proxy."""

    connections: int = 0
    #: Connections that a plan or a reset of all connections ended, and those ended by RST.
    cuts: int = 0
    resets: int = 0
    #: Pieces that were slowed down or swallowed.
    held: int = 0
    #: Bytes forwarded, by direction, over all connections that have ended.
    request_bytes: int = 0
    answer_bytes: int = 0


class ProxyConnection:
    """Both directions of a connection, and a way to wake the thread that serves them."""

    def __init__(
        self, traffic: ProxyCounts, client: socket.socket, server: socket.socket, plan: Plan
    ) -> None:
        self.traffic = traffic
        self.plan = plan
        self.request = _Direction(self, client, server, plan.cut_request)
        self.answer = _Direction(self, server, client, plan.cut_answer)
        self._stopped = False
        self._waker, self._wakened = socket.socketpair()
        for end in (self._waker, self._wakened):
            end.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._waker.close()
        self._wakened.close()

    def follow(self, plan: Plan) -> None:
        """Follow this plan from now on."""
        self.plan = plan
        for direction, limit in (
            (self.request, plan.cut_request),
            (self.answer, plan.cut_answer),
        ):
            direction.limit = direction.carried + limit
        self._wake()

    def stop(self) -> None:
        """End with a reset, soon."""
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    def run(self) -> bool:
        """Forward both directions until they end; return whether RST has to end them."""
        directions = (self.request, self.answer)
        try:
            while not (self.request.ended and self.answer.ended):
                self._wait()
                if self._stopped:
                    return True
                for direction in directions:
                    direction.read()
                    direction.write()
                    if direction.cut:
                        self.traffic.cuts += 1
                        if self.plan.reset:
                            time.sleep(0.005)  # the written bytes have to leave before the reset
                        else:
                            _finish(direction.source, direction.target)
                        return self.plan.reset
        except OSError:
            return True  # one side is closed, so the other is closed as well
        return False

    def _wait(self) -> None:
        """Wait until a direction can continue, for a quarter of a second at most."""
        poll = select.poll()
        masks = {self._wakened.fileno(): select.POLLIN}
        wait_s = 0.25
        for each in (self.request, self.answer):
            if each.wants_to_read:
                place = each.source.fileno()
                masks[place] = masks.get(place, 0) | select.POLLIN
            if each.wants_to_write and not each.wait_s:
                place = each.target.fileno()
                masks[place] = masks.get(place, 0) | select.POLLOUT
            elif each.wants_to_write:
                wait_s = min(wait_s, each.wait_s)
        for place, mask in masks.items():
            poll.register(place, mask)
        poll.poll(wait_s * 1000)
        with contextlib.suppress(OSError):
            self._wakened.recv(PIECE)


class _Direction:
    """Bytes from one socket to another; never blocks."""

    def __init__(
        self, connection: ProxyConnection, source: socket.socket, target: socket.socket, limit: int
    ) -> None:
        for sock in (source, target):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.source = source
        self.target = target
        self.limit = limit
        self._connection = connection
        self._data = bytearray()
        self._due = 0.0
        self._whole = not connection.plan.hold
        self._finished = False  # the source has
        self.ended = False
        self.carried = 0

    @property
    def cut(self) -> bool:
        return self.carried >= self.limit

    @property
    def wants_to_read(self) -> bool:
        return not self._finished and (not self._whole or len(self._data) < _WAITING)

    @property
    def wants_to_write(self) -> bool:
        return self._whole and not self.ended and bool(self._data or self._finished)

    @property
    def wait_s(self) -> float:
        """The seconds until the next write is due."""
        return max(0.0, self._due - time.monotonic())

    def take(self, data: bytes) -> None:
        plan = self._connection.plan
        if plan.silent:
            self._connection.traffic.held += 1
            if not data:  # the end of this side is hidden from the other
                self._finished, self._whole = True, False
            return
        if not self._data:
            self._due = max(self._due, time.monotonic() + plan.delay_s)
        self._data += data
        self._finished = not data
        self._whole = self._whole or self._finished or _is_whole(self._data)

    def read(self) -> None:
        if self.wants_to_read:
            with contextlib.suppress(BlockingIOError):
                self.take(self.source.recv(PIECE))

    def write(self) -> None:
        if not self.wants_to_write or self.wait_s:
            return
        if not self._data:
            self.ended = True
            self.target.shutdown(socket.SHUT_WR)
            return
        rate = self._connection.plan.rate
        most = PIECE if rate is None else max(1, rate // 20)
        piece = self._data[: min(PIECE, self.limit - self.carried, most)]
        try:
            sent = self.target.send(piece)
        except BlockingIOError:
            return
        del self._data[:sent]
        self.carried += sent
        if rate is not None:
            self._connection.traffic.held += 1
            self._due = time.monotonic() + sent / rate


def set_reset(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _finish(*sockets: socket.socket) -> None:
    """End connections by FIN: closing one with unread bytes would send RST."""
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 0.02
    while time.monotonic() < deadline:
        for sock in select.select(sockets, [], [], 0.005)[0]:
            with contextlib.suppress(OSError):
                sock.recv(PIECE)


def _is_whole(message: bytes | bytearray) -> bool:
    """Return whether a message is complete; the end of a body without chunks is unknown."""
    head, end, body = bytes(message).partition(b"\r\n\r\n")
    if not end:
        return False
    return b"transfer-encoding: chunked" not in head.lower() or body.endswith(b"0\r\n\r\n")
