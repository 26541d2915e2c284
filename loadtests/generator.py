"""A small HTTP load generator: keep-alive connections, one webhook at a time on each.

Bare protocols under uvloop, so that it costs less than the servers it measures. Two kinds of load:

- closed: each connection sends its next webhook once the last one is answered. The rate is what the
  server achieves.
- open: webhooks are due at a fixed rate, whatever the server does. One that finds no free
  connection waits for one, and its latency counts from the time at which it was due: a server that
  stalls for a second delays all webhooks of that second (no coordinated omission).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import uvloop

from portable_core.sources.schemes import sign

#: How long the end of an open load waits for responses, in seconds.
_PATIENCE_S = 10.0
#: How often an open load sends the webhooks that are due, in seconds.
_TICK_S = 0.001

_now = time.perf_counter


@dataclass(frozen=True, slots=True)
class Load:
    """``rate``: acknowledged webhooks a second; latencies in milliseconds.

    ``refused``: responses other than 200, and webhooks without a response.
    """

    rate: float
    p50: float
    p90: float
    p99: float
    p999: float
    refused: int


class _Sender(asyncio.Protocol):
    """One connection, which sends one request at a time."""

    def __init__(self, load: _Closed | _Open) -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        length = head.partition(b"content-length:")[2].partition(b"\r")[0]
        if len(self._received) < end + 4 + int(length):
            return
        self._received = b""
        self._load.note(self, _now() - self._due, head.startswith(b"http/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lose(self)

    def close(self) -> None:
        self._transport.close()


class _Closed:
    """Every sender sends its next request as soon as it can."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self._ended = False
        self.latencies: list[float] = []
        self.refused = 0

    async def run(self, senders: Sequence[_Sender], seconds: float) -> float:
        """Send for so many seconds; return how many it were."""
        begun = _now()
        for sender in senders:
            self._send(sender)
        await asyncio.sleep(seconds)
        self._ended = True
        return _now() - begun

    def _send(self, sender: _Sender) -> None:
        self._next += 1
        sender.send(self._requests[self._next % len(self._requests)], _now())

    def note(self, sender: _Sender, latency: float, done: bool) -> None:
        """Note a response."""
        if self._ended:
            return
        if done:
            self.latencies.append(latency)
        else:
            self.refused += 1
        self._send(sender)

    def lose(self, sender: _Sender) -> None:
        """Note a connection that has ended."""
        if not self._ended:
            self.refused += 1


class _Open:
    """Requests are due at a fixed rate."""

    def __init__(self, requests: Sequence[bytes], rate: float) -> None:
        self._requests = requests
        self._rate = rate
        self._free: list[_Sender] = []
        self._waiting: deque[float] = deque()
        self._sent = self._answered = 0
        self.latencies: list[float] = []
        self.refused = 0

    async def run(self, senders: Sequence[_Sender], seconds: float) -> float:
        """Send for so many seconds, wait for the responses, and return the seconds."""
        self._free = list(senders)
        begun = _now()
        due, count = 0, int(self._rate * seconds)
        while due < count:
            now = _now()
            while due < count and begun + due / self._rate <= now:
                self._waiting.append(begun + due / self._rate)
                due += 1
            self._send_waiting()
            await asyncio.sleep(_TICK_S)
        until = _now() + _PATIENCE_S
        while self._answered < count and _now() < until:
            await asyncio.sleep(_TICK_S)
        self.refused += count - self._answered
        return max(_now() - begun, seconds)

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            self._sent += 1
            request = self._requests[self._sent % len(self._requests)]
            self._free.pop().send(request, self._waiting.popleft())

    def note(self, sender: _Sender, latency: float, done: bool) -> None:
        """Note a response."""
        self._answered += 1
        if done:
            self.latencies.append(latency)
        else:
            self.refused += 1
        self._free.append(sender)
        self._send_waiting()

    def lose(self, sender: _Sender) -> None:
        """Note a connection that has ended; its webhook is not answered."""
        if sender in self._free:
            self._free.remove(sender)


async def measure(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    senders: int,
    seconds: float,
    rate: float = 0,
    scheme: str = "",
) -> Load:
    """Send from ``senders`` connections; ``rate`` makes it an open load.

    With a ``scheme``, as ``preset:secret``, the webhooks are signed before the load begins.
    """
    requests = [_make_request(path, body, scheme) for body in bodies]
    load = _Open(requests, rate) if rate else _Closed(requests)
    loop = asyncio.get_running_loop()
    connections: list[_Sender] = []
    for _ in range(senders):
        _, sender = await loop.create_connection(lambda: _Sender(load), "127.0.0.1", port)
        connections.append(sender)
    elapsed = await load.run(connections, seconds)
    for sender in connections:
        sender.close()
    latencies = sorted(load.latencies)
    if not latencies:
        raise RuntimeError("not one webhook was acknowledged")

    def quantile(share: float) -> float:
        return latencies[min(int(len(latencies) * share), len(latencies) - 1)] * 1000

    return Load(
        rate=len(latencies) / elapsed,
        p50=quantile(0.5),
        p90=quantile(0.9),
        p99=quantile(0.99),
        p999=quantile(0.999),
        refused=load.refused,
    )


def _make_request(path: str, body: bytes, scheme: str) -> bytes:
    signed = sign(scheme, body, int(time.time()), "bench") if scheme else {}
    headers = "".join(f"{name}: {value}\r\n" for name, value in signed.items()).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"%bContent-Length: %d\r\n\r\n%b" % (path.encode(), headers, len(body), body)
    )


def make_bodies(count: int, size: int = 900) -> list[bytes]:
    """``count`` different JSON objects of about ``size`` bytes each."""
    filler = {f"member_{n}": f"value {n} of a webhook" for n in range(size // 36)}
    return [json.dumps({"delivery": f"{n:09d}-bench", **filler}).encode() for n in range(count)]


def main() -> None:
    """Print the load as a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("senders", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rate", type=float, default=0, help="webhooks a second: an open load")
    parser.add_argument("--scheme", default="", help="preset:secret that signs the webhooks")
    given = parser.parse_args()
    load = uvloop.run(
        measure(
            given.port,
            given.path,
            make_bodies(20_000),
            given.senders,
            given.seconds,
            given.rate,
            given.scheme,
        )
    )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
