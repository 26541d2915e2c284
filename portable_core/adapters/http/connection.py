"""The TCP connection of one HTTP exchange: its progress, its end, and its errors in words."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from portable_core.errors import AnswerInvalid, SlaveError, SlaveUnreachable

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # not a Unix: the bytes in the kernel's buffer cannot be counted
    ioctl = None  # type: ignore[assignment]  # a function elsewhere

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler


class ExchangeConnector(aiohttp.TCPConnector):
    """Makes one connection and keeps it, to observe its progress and to abort it."""

    def __init__(self, tls: ssl.SSLContext | None, on_broken: Callable[[], None]) -> None:
        super().__init__(
            ssl=True if tls is None else tls,
            force_close=True,
            socket_factory=lambda info: _Socket(info[0], info[1], info[2], on_broken),
        )
        self.transport: asyncio.Transport | None = None
        self.protocol: ResponseHandler | None = None
        self._socket: socket.socket | None = None

    async def connect(self, *args: object, **kwargs: object) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **kwargs)  # type: ignore[arg-type]  # as given
        self.transport, self.protocol = connection.transport, connection.protocol
        if self.transport is not None:
            self._socket = self.transport.get_extra_info("socket")
        return connection

    def count_unsent(self) -> tuple[int, int]:
        """Return the unsent bytes in the transport's buffer and in the kernel's."""
        if self.transport is None or self._socket is None or self.transport.is_closing():
            return 0, 0
        queued = 0
        if ioctl is not None:
            with suppress(OSError, ValueError):  # closed at this moment
                queued = struct.unpack("i", ioctl(self._socket.fileno(), TIOCOUTQ, b"\0" * 4))[0]
        return self.transport.get_write_buffer_size(), queued

    def end(self, *, reset: bool) -> None:
        """Abort the connection and drop its buffers; with ``reset`` the peer notices at once."""
        if self.transport is None:
            return
        if reset and self._socket is not None:
            with suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        # Before Python 3.11.4, asyncio raises if a TLS transport was closed twice.
        with suppress(AttributeError):
            self.transport.abort()


class _Socket(socket.socket):
    """A socket that can still be read after writing to it has failed.

    A slave that rejects a request answers at once and closes, with the request unread; its kernel
    then resets the connection. asyncio drops a socket when a write fails, and the unread response
    with it. Here a failed write seems to succeed, so that the response can be read to its end.
    """

    def __init__(self, family: int, kind: int, proto: int, on_broken: Callable[[], None]) -> None:
        super().__init__(family, kind, proto)
        self._on_broken = on_broken

    def send(self, data, flags=0, /):  # type: ignore[no-untyped-def]  # as socket's own
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            self._on_broken()
            return memoryview(data).nbytes

    def sendmsg(self, buffers, *rest):  # type: ignore[no-untyped-def]  # as socket's own
        buffers = list(buffers)
        try:
            return super().sendmsg(buffers, *rest)
        except (BrokenPipeError, ConnectionResetError):
            self._on_broken()
            return sum(memoryview(data).nbytes for data in buffers)


def translate_error(error: Exception, peer: str, connect_s: float) -> SlaveError:
    """Return the error of a connection to ``peer`` as a ``SlaveError`` with a hint."""
    reason = shorten(str(error)) or type(error).__name__
    match error:
        case SlaveError():
            return error
        case aiohttp.ClientConnectorCertificateError():
            text = f"its TLS certificate is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorSSLError():
            text = f"TLS failed ({reason}). Does the address speak https?"
        case aiohttp.ClientConnectorDNSError():
            text = "its host name cannot be resolved. Is the address correct?"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            cause = os.strerror(number) if number else reason
            text = f"no connection ({cause}). Is the node running?"
        case aiohttp.ConnectionTimeoutError():
            text = f"no connection within {connect_s:g} s. Is the node reachable?"
        case aiohttp.ClientResponseError():
            return AnswerInvalid(f"{peer}: the response is not HTTP: {reason}")
        case aiohttp.ServerDisconnectedError():
            text = "closed the connection without a response"
        case aiohttp.ClientPayloadError():
            text = f"the response was cut: {reason}"
        case aiohttp.InvalidURL() | ValueError():
            text = f"the request cannot be made ({reason}). Are address and token correct?"
        case _:
            text = f"the connection broke: {type(error).__name__}: {reason}"
    return SlaveUnreachable(f"{peer}: {text}")


def shorten(text: str, limit: int = 200) -> str:
    """Return ``text`` as one line of at most ``limit`` printable characters."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    return " ".join(printable.split())[:limit].rstrip()
