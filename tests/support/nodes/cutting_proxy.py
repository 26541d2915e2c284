"""A TCP proxy before a gRPC server that breaks the connection at a chosen place of an answer.

It reads the frames of HTTP/2 (RFC 9113, section 4.1) that the server sends, so that "before the
answer" and "after the third message" are exact, whatever the timing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_DATA, _HEADERS = 0, 1


class CuttingProxy:
    """``cut_before_answer`` and ``cut_after_messages`` arm it for one cut."""

    def __init__(self, server: str) -> None:
        self._host, _, port = server.rpartition(":")
        self._port = int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._messages: int | None = None
        self._before_answer = False
        self._swallowing = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_before_answer(self) -> None:
        """The next request reaches the server; its answer is lost with the connection."""
        self._before_answer = True

    def cut_after_messages(self, count: int) -> None:
        """Break the connection after ``count`` more data frames from the server."""
        self._messages = count

    def swallow(self) -> None:
        """Keep connections open, but let nothing through any more."""
        self._swallowing = True

    def let_through(self) -> None:
        """Serve new connections again."""
        self._swallowing = False

    def close(self) -> None:
        self._listener.close()
        for each in self._open:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._host, self._port))
            except OSError:
                return
            self._open += [client, server]
            for pump in (self._forward, self._answer):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if not self._swallowing:
                    server.sendall(data)
        except OSError:
            pass
        finally:
            _close(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        try:
            for kind, frame in _read_frames(server):
                if self._cut_now(kind):
                    self.cuts += 1
                    return
                if not self._swallowing:
                    client.sendall(frame)
        except OSError:
            pass
        finally:
            _close(client, server)

    def _cut_now(self, kind: int) -> bool:
        if kind == _HEADERS and self._before_answer:
            self._before_answer = False
            return True
        if kind == _DATA and self._messages is not None:
            self._messages -= 1
            if self._messages < 0:
                self._messages = None
                return True
        return False


@contextmanager
def run_proxy(server: str) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()


def _read_frames(server: socket.socket) -> Iterator[tuple[int, bytes]]:
    buffered = b""
    while data := server.recv(65536):
        buffered += data
        while len(buffered) >= 9:
            length = 9 + int.from_bytes(buffered[:3], "big")
            if len(buffered) < length:
                break
            yield buffered[3], buffered[:length]
            buffered = buffered[length:]


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
