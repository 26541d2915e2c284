"""A server on loopback that speaks HTTP by hand, and so can break it at any byte.

A test gives it one function, which gets every connection in a thread of its own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
MSGPACK = "application/vnd.msgpack"
SYNC_HEADERS = {"Sync-Through": "1700000000000", "Sync-Store": f"{UUID}/3", "Content-Type": MSGPACK}


class Talk:
    """One connection, from the server's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._input = sock.makefile("rb")
        self.head = b""

    def read_head(self) -> bytes:
        while not self.head.endswith(b"\r\n\r\n"):
            line = self._input.readline(65_536)
            if not line:
                raise ConnectionError("the client went away within the head")
            self.head += line
        return self.head

    def read_chunk(self) -> bytes:
        """The request's next chunk (RFC 9112, 7.1); empty at its end."""
        line = self._input.readline(1000)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the client went away within the body")
        size = int(line, 16)
        data = self._input.read(size + 2)
        if len(data) != size + 2:
            raise ConnectionError("the client went away within the body")
        return data[:-2]

    def read_body(self) -> Iterator[bytes]:
        while chunk := self.read_chunk():
            yield chunk

    def wait_for_end(self) -> None:
        """Return when the client has closed or reset the connection."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65_536):
                pass

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_head(self, status: str = "200 OK", **headers: str) -> None:
        """``SYNC_HEADERS`` and chunked for 200; underscores stand for hyphens; empty removes."""
        lines = {"Transfer-Encoding": "chunked"}
        if status.startswith("200"):
            lines |= SYNC_HEADERS
        for name, value in headers.items():
            lines[name.replace("_", "-")] = value
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        self.send(f"HTTP/1.1 {status}\r\n{text}\r\n".encode("latin-1"))

    def send_chunk(self, data: bytes) -> None:
        if data:  # an empty one would be the end
            self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def send_whole(self, status: str, body: bytes, **headers: str) -> None:
        lengths = {"Transfer_Encoding": "", "Content_Length": str(len(body))}
        self.send_head(status, **(lengths | headers))
        self.send(body)

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
            self.sock.close()


class HostileSlave:
    """Answers every connection with ``handler``; what that raises is kept in ``errors``."""

    def __init__(self, handler: Callable[[Talk], None], tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._talks: list[Talk] = []
        self.errors: list[BaseException] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._threads)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self._talks:
            with contextlib.suppress(OSError):
                talk.sock.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """Until every handler has returned."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a handler of the hostile slave is stuck"

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            # A reset drops what Nagle's algorithm holds back; here every byte sent is on its way.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            talk = Talk(sock)
            self._talks.append(talk)
            try:
                self._handler(talk)
            finally:
                talk.close()
        except OSError as error:
            self.errors.append(error)
            sock.close()
