"""The one TCP connection of one HTTP exchange: watched, heard out, ended abruptly, explained."""

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
except ImportError:  # not a Unix: what moves inside the kernel's buffer stays unseen there
    ioctl = None  # type: ignore[assignment]  # a function elsewhere

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler


class ExchangeConnector(aiohttp.TCPConnector):
    """Makes one connection, and keeps hold of it to watch it and to end it abruptly."""

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
        """Bytes in the transport's buffer, and bytes in the kernel's that the peer has not got."""
        if self.transport is None or self._socket is None or self.transport.is_closing():
            return 0, 0
        queued = 0
        if ioctl is not None:
            with suppress(OSError, ValueError):  # closed at this moment
                queued = struct.unpack("i", ioctl(self._socket.fileno(), TIOCOUTQ, b"\0" * 4))[0]
        return self.transport.get_write_buffer_size(), queued

    def end(self, *, reset: bool) -> None:
        """Drop the connection and all that waits in it; a ``reset`` tells the peer at once."""
        if self.transport is None:
            return
        if reset and self._socket is not None:
            with suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self.transport.abort()


class _Socket(socket.socket):
    """A socket whose peer can be heard out after it has stopped listening.

    A slave that refuses answers at once and closes, with the request unread; its kernel then resets
    the connection. asyncio drops a socket when a write fails, with the answer unread in it. Here
    writes seem to go on, into nothing, and the reading side finds the answer, then the end.
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
    """What went wrong with the connection to ``peer``, in words that say what to look at."""
    reason = shorten(str(error)) or type(error).__name__
    match error:
        case SlaveError():
            return error
        case aiohttp.ClientConnectorCertificateError():
            text = f"its TLS certificate is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorSSLError():
            text = f"TLS failed; does it speak https there? {reason}"
        case aiohttp.ClientConnectorDNSError():
            text = "its host name cannot be resolved; is the address right?"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            cause = os.strerror(number) if number else reason
            text = f"no connection ({cause}); is it running there?"
        case aiohttp.ConnectionTimeoutError():
            text = f"no connection within {connect_s:g} s; is it reachable?"
        case aiohttp.ClientResponseError():
            return AnswerInvalid(f"{peer}: what answers there is not HTTP: {reason}")
        case aiohttp.ServerDisconnectedError():
            text = "closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            text = f"the answer was cut: {reason}"
        case aiohttp.InvalidURL() | ValueError():
            text = f"the request cannot be made; are address and token right? {reason}"
        case _:
            text = f"the connection broke: {type(error).__name__}: {reason}"
    return SlaveUnreachable(f"{peer}: {text}")


def shorten(text: str, limit: int = 200) -> str:
    """One line of printable characters, at most ``limit`` of them."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    return " ".join(printable.split())[:limit].rstrip()
