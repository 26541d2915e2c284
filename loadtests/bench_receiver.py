"""A receiver of webhooks for benchmarks: answers at once, fails some requests, counts.

    python -m loadtests.bench_receiver PORT FAILURES

``GET /`` returns the counts as JSON, ``GET /times`` the time of each number, on the monotonic clock
of this machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import ClassVar, cast

import uvloop


class _Receiver(asyncio.Protocol):
    accepted = 0
    failed = 0
    failures = 0.0
    times: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each whole request; it has a ``Content-Length`` in the form of Python's client."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end]
            if head.startswith(b"GET"):
                counts = {"accepted": _Receiver.accepted, "failed": _Receiver.failed}
                shown: object = _Receiver.times if head.startswith(b"GET /times") else counts
                self._answer(b"200 OK", json.dumps(shown).encode())
                self._rest = b""
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._rest) < end + 4 + length:
                return
            number = self._rest[end + 4 : end + 40].partition(b":")[2].partition(b",")[0]
            _Receiver.times.setdefault(number.decode(), time.monotonic())
            self._rest = self._rest[end + 4 + length :]
            if random.random() < _Receiver.failures:
                _Receiver.failed += 1
                self._answer(b"500 No", b"")
            else:
                _Receiver.accepted += 1
                self._answer(b"200 OK", b"")

    def _answer(self, status: bytes, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Receiver, "127.0.0.1", port, reuse_address=True)
    await server.serve_forever()


if __name__ == "__main__":
    _Receiver.failures = float(sys.argv[2])
    uvloop.run(_serve(int(sys.argv[1])))
