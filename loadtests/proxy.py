"""A TCP proxy on loopback that cuts, slows down, holds back or swallows what goes through it.

It knows nothing of HTTP but a request's first line, by which a test may choose what happens to a
connection. One thread serves each connection; all methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

_NEVER = 2**62
_PIECE = 65_536
_WAITING = 4 * _PIECE  # read from one side and not yet written to the other, unless it is held

#: Closing a socket with this option sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to a connection; by default nothing does.

    - ``refuse``: it is reset as soon as it is there.
    - ``cut_request``, ``cut_answer``: after how many bytes of that direction it is ended, by a
      ``reset`` or in order.
    - ``delay_s``: how much later bytes arrive, each way; ``rate``: bytes a second, each way.
    - ``hold``: a chunked request goes on only when all of it is there; a chunked answer likewise.
    - ``silent``: half-open; bytes are read from both sides and go nowhere, and neither side learns.
    """

    refuse: bool = False
    cut_request: int = _NEVER
    cut_answer: int = _NEVER
    reset: bool = False
    delay_s: float = 0.0
    rate: int | None = None
    hold: bool = False
    silent: bool = False


class Proxy:
    """Listens on a free loopback port from :meth:`start` to :meth:`close`."""

    def __init__(
        self, port: int, plan: Callable[[bytes], Plan] | None = None, *, name: str = "proxy"
    ) -> None:
        """``port`` is the server's; ``plan`` gives a connection's plan by its first line.

        Without ``plan`` every connection follows :meth:`behave`, at any time.
        """
        self.name = name
        self.plan = plan
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._behaviour = Plan()
        self._connections: set[_Connection] = set()
        self._ended = False
        #: Connections so far; those that were cut, by a plan or by :meth:`reset_all`; those reset.
        self.connections = self.cuts = self.resets = 0
        #: Pieces of the traffic that were slowed down or swallowed.
        self.held = 0
        #: Bytes that went on, by direction, over all connections that have ended.
        self.request_bytes = self.answer_bytes = 0

    def start(self) -> None:
        threading.Thread(target=self._accept, name=self.name, daemon=True).start()

    def close(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            connection.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- changing its ways -------------------------------------------------------------------------

    def behave(self, **changes: object) -> None:
        """Change the plan of every connection, those that are open included.

        Cuts count from now on.
        """
        self._behaviour = replace(self._behaviour, **changes)  # type: ignore[arg-type]  # by name
        for connection in list(self._connections):
            connection.follow(self._behaviour)

    def heal(self) -> None:
        """Behave well again. Half-open connections are reset: their bytes are lost for good."""
        was_silent = self._behaviour.silent
        self.behave(**{name: getattr(Plan(), name) for name in Plan.__slots__})
        if was_silent:
            self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection that is open now."""
        for connection in list(self._connections):
            connection.stop()

    # -- serving -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            if self._behaviour.refuse:
                self.resets += 1
                _set_reset(client)
                return
            server = stack.enter_context(socket.socket())
            try:
                head = client.recv(_PIECE) if self.plan is not None else b""
                # Little of an answer is on its way, so that a server is held up where a client is.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
                server.connect(("127.0.0.1", self._server))
            except OSError:
                _set_reset(client)
                return
            plan = self._behaviour
            if self.plan is not None:
                plan = self.plan(head.partition(b"\r\n")[0])
            connection = stack.enter_context(_Connection(self, client, server, plan))
            self._connections.add(connection)
            stack.callback(self._connections.discard, connection)
            if head:
                connection.request.take(head)
            reset = connection.run()
            self.request_bytes += connection.request.carried
            self.answer_bytes += connection.answer.carried
            if reset:
                self.resets += 1
                _set_reset(client, server)


class _Connection:
    """Two directions, and a way to wake the thread that serves them."""

    def __init__(
        self, proxy: Proxy, client: socket.socket, server: socket.socket, plan: Plan
    ) -> None:
        self.proxy = proxy
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
        """Carry both directions to their ends; return whether a reset has to end them."""
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
                        self.proxy.cuts += 1
                        if self.plan.reset:
                            time.sleep(0.005)  # what was written has to leave before the reset
                        else:
                            _finish(direction.source, direction.target)
                        return self.plan.reset
        except OSError:
            return True  # one side is gone: so it is for the other
        return False

    def _wait(self) -> None:
        """Until a direction can go on, for a quarter of a second at most."""
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
            self._wakened.recv(_PIECE)


class _Direction:
    """Bytes from one socket to another; never blocks."""

    def __init__(
        self, connection: _Connection, source: socket.socket, target: socket.socket, limit: int
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
        """How long it has to wait before it may write."""
        return max(0.0, self._due - time.monotonic())

    def take(self, data: bytes) -> None:
        plan = self._connection.plan
        if plan.silent:
            self._connection.proxy.held += 1
            if not data:  # nor does the other side learn that this one has ended
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
                self.take(self.source.recv(_PIECE))

    def write(self) -> None:
        if not self.wants_to_write or self.wait_s:
            return
        if not self._data:
            self.ended = True
            self.target.shutdown(socket.SHUT_WR)
            return
        rate = self._connection.plan.rate
        most = _PIECE if rate is None else max(1, rate // 20)
        piece = self._data[: min(_PIECE, self.limit - self.carried, most)]
        try:
            sent = self.target.send(piece)
        except BlockingIOError:
            return
        del self._data[:sent]
        self.carried += sent
        if rate is not None:
            self._connection.proxy.held += 1
            self._due = time.monotonic() + sent / rate


def _set_reset(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


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


def _is_whole(message: bytes | bytearray) -> bool:
    """Whether a request or an answer has all of its chunked body, if it has one."""
    head, end, body = bytes(message).partition(b"\r\n\r\n")
    if not end:
        return False
    return b"transfer-encoding: chunked" not in head.lower() or body.endswith(b"0\r\n\r\n")
