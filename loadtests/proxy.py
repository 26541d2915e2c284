"""A TCP proxy on loopback that cuts, slows down, holds back or swallows what goes through it.

It knows nothing of HTTP but a request's first line, by which a test may choose the plan of a
connection. One thread serves each connection; all methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from loadtests.proxy_connection import PIECE, Plan, ProxyConnection, ProxyCounts, set_reset

__all__ = ["Plan", "Proxy"]


class Proxy(ProxyCounts):
    """A proxy on a free loopback port, which serves from :meth:`start` to :meth:`close`."""

    def __init__(
        self, port: int, plan: Callable[[bytes], Plan] | None = None, *, name: str = "proxy"
    ) -> None:
        """Forward to ``port``; ``plan`` returns a connection's plan for its first line.

        Without ``plan``, :meth:`behave` changes the plan of every connection at any time.
        """
        super().__init__()
        self.name = name
        self.plan = plan
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._behaviour = Plan()
        self._connections: set[ProxyConnection] = set()

    def start(self) -> None:
        threading.Thread(target=self._accept, name=self.name, daemon=True).start()

    def close(self) -> None:
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

    # -- changing the plan -------------------------------------------------------------------------

    def behave(self, **changes: object) -> None:
        """Change the plan of every connection, open ones included.

        Cuts count from the bytes forwarded so far.
        """
        self._behaviour = replace(self._behaviour, **changes)  # type: ignore[arg-type]  # by name
        for connection in list(self._connections):
            connection.follow(self._behaviour)

    def heal(self) -> None:
        """Remove all faults. Half-open connections are reset, because their bytes are lost."""
        was_silent = self._behaviour.silent
        self.behave(**{name: getattr(Plan(), name) for name in Plan.__slots__})
        if was_silent:
            self.reset_all()

    def reset_all(self) -> None:
        """Reset every open connection."""
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
                set_reset(client)
                return
            server = stack.enter_context(socket.socket())
            try:
                head = client.recv(PIECE) if self.plan is not None else b""
                # A small buffer: a slow client makes the server wait.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
                server.connect(("127.0.0.1", self._server))
            except OSError:
                set_reset(client)
                return
            plan = self._behaviour
            if self.plan is not None:
                plan = self.plan(head.partition(b"\r\n")[0])
            connection = stack.enter_context(ProxyConnection(self, client, server, plan))
            self._connections.add(connection)
            stack.callback(self._connections.discard, connection)
            if head:
                connection.request.take(head)
            reset = connection.run()
            self.request_bytes += connection.request.carried
            self.answer_bytes += connection.answer.carried
            if reset:
                self.resets += 1
                set_reset(client, server)
