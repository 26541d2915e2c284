"""Clients that never end: idle connections, unfinished heads, unfinished bodies.

``python -m loadtests.slow_peers PORT KIND COUNT`` opens the connections, prints a line once all are
open and what they send first is sent as far as the server reads it, and holds them until its input
ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop

_MIB = 2**20
_HEAD = b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
_LONG = _HEAD + b"Content-Length: %d\r\n\r\n" % _MIB

#: What each kind sends at first.
KINDS = {
    "idle": b"",
    "unfinished heads": _HEAD,
    "60 kB of 1 MiB": _LONG + b" " * 60_000,
    "1 MiB less a byte": _LONG + b" " * (_MIB - 1),
}
#: How often each client sends another byte, or connects again, in seconds.
DRIP_S = 10.0
_AT_ONCE = 200
_SEND_BYTES = 4096
_STILL_S = 3.0


class _Peer(asyncio.Protocol):
    """A connection; one that the server ends is opened again."""

    def __init__(self, peers: _Peers) -> None:
        self._peers = peers
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._peers.open.add(self)
        self.transport.write(self._peers.first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.open.discard(self)
        self._peers.ended += 1


class _Peers:
    def __init__(self, port: int, first: bytes) -> None:
        self.port = port
        self.first = first
        self.open: set[_Peer] = set()
        self.ended = 0

    async def connect(self, count: int) -> None:
        """Open so many connections. The server may end some of them meanwhile."""
        loop = asyncio.get_running_loop()
        for begun in range(0, count, _AT_ONCE):
            some = [self._connect(loop) for _ in range(min(count - begun, _AT_ONCE))]
            await asyncio.gather(*some, return_exceptions=True)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        peer = socket.socket()
        peer.setblocking(False)
        # What a sender's kernel holds is on another machine; here it would count against the
        # memory for TCP that the server has.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        try:
            await loop.sock_connect(peer, ("127.0.0.1", self.port))
            await loop.create_connection(lambda: _Peer(self), sock=peer)
        except OSError:
            peer.close()
            raise

    async def send_first(self) -> None:
        """Return once the server has read nothing more for some seconds, or has all."""
        before = -1
        while before != (waiting := self.count_waiting()):
            before = waiting
            await asyncio.sleep(_STILL_S)

    def count_waiting(self) -> int:
        """Return the bytes that wait until the server reads."""
        return sum(peer.transport.get_write_buffer_size() for peer in self.open)

    async def drip(self, count: int) -> None:
        """Give each client a turn once in ``DRIP_S``: it sends a byte, or connects again."""
        while True:
            peers = list(self.open)
            for turn in range(count):
                if turn >= len(peers):
                    await self.connect(1)
                elif self.first and not peers[turn].transport.get_write_buffer_size():
                    peers[turn].transport.write(b"x")
                await asyncio.sleep(DRIP_S / count)


async def _run(port: int, kind: str, count: int) -> None:
    peers = _Peers(port, KINDS[kind])
    await peers.connect(count)
    await peers.send_first()
    print(f"{len(peers.open)} open", flush=True)
    dripping = asyncio.create_task(peers.drip(count))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    dripping.cancel()
    print(f"{peers.ended} ended by the server", flush=True)


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
