"""The bytes of one connection in both directions: what is read, written, paused and ended."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress

_RESET = struct.pack("ii", 1, 0)  # linger for no time


class Channel(asyncio.Protocol):
    """A transport. Everything happens on the loop's thread.

    - ``lost``: the connection is closed.
    - ``paused``: nothing is read from the client.
    - ``blocked_since``: since when the client has read too little, in seconds of the monotonic
      clock; None while it reads.
    """

    __slots__ = ("_dozes", "_held_up", "_transport", "blocked_since", "lost", "paused")

    def __init__(self) -> None:
        self.lost = self.paused = False
        self._held_up = self._dozes = False
        self.blocked_since: float | None = None
        self._transport: asyncio.Transport

    def attach(self, transport: asyncio.BaseTransport, high_water: int) -> None:
        """Use a transport; beyond ``high_water`` bytes that wait for the client it is blocked."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101  # a stream's
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high_water)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pause_writing(self) -> None:
        self.blocked_since = time.monotonic()

    def resume_writing(self) -> None:
        self.blocked_since = None

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def shut_down(self) -> None:
        """Write nothing more; the client may still be read."""
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Close once what is written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """End with a reset, which is seen whatever was announced."""
        if (sock := self._transport.get_extra_info("socket")) is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the client."""
        if not self.paused and not self.lost and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again, unless there is another reason not to."""
        if self._held_up or self._dozes:
            return
        if self.paused and not self.lost and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()

    def hold_up(self) -> None:
        """Read nothing more: too much is held."""
        self._held_up = True
        self.pause()

    def let_go(self) -> None:
        """Read again; there is room."""
        self._held_up = False
        self.resume()

    def doze(self) -> None:
        """Read nothing for some seconds: too little comes at a time."""
        self._dozes = True
        self.pause()

    def wake(self) -> None:
        """Read again after some seconds."""
        self._dozes = False
        self.resume()

    def read_again(self) -> None:
        """Read whatever the reasons not to were."""
        self._held_up = self._dozes = False
        Channel.resume(self)

    def describe_ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the addresses of the peer and of this side."""
        peer = self._transport.get_extra_info("peername") or ("", 0)
        here = self._transport.get_extra_info("sockname") or ("", 0)
        return (str(peer[0]), int(peer[1])), (str(here[0]), int(here[1]))
