"""A small HTTP load generator: keep-alive connections, one webhook after another on each.

Raw sockets under asyncio, so that it costs less than the servers it measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """``rate``: acknowledged webhooks a second; latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    refused: int


async def _send(port: int, path: str, bodies: list[bytes], until: float) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies: list[float] = []
    refused = 0
    number = 0
    while time.perf_counter() < until:
        body = bodies[number % len(bodies)]
        number += 1
        begun = time.perf_counter()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        await reader.readexactly(int(lengths[0].split(b":")[1]))
        if answer.startswith(b"HTTP/1.1 200"):
            latencies.append(time.perf_counter() - begun)
        else:
            refused += 1
    writer.close()
    return latencies, refused


async def measure(port: int, path: str, bodies: list[bytes], senders: int, seconds: float) -> Load:
    """Send from ``senders`` connections for ``seconds`` and return what came of it."""
    begun = time.perf_counter()
    until = begun + seconds
    shares = [bodies[number::senders] or bodies for number in range(senders)]
    results = await asyncio.gather(*(_send(port, path, share, until) for share in shares))
    elapsed = time.perf_counter() - begun
    latencies = sorted(latency for some, _ in results for latency in some)
    if not latencies:
        raise RuntimeError("not one webhook was acknowledged")
    return Load(
        rate=len(latencies) / elapsed,
        p50=latencies[len(latencies) // 2] * 1000,
        p99=latencies[len(latencies) * 99 // 100] * 1000,
        refused=sum(refused for _, refused in results),
    )


def make_bodies(count: int, size: int = 900) -> list[bytes]:
    """``count`` different JSON objects of about ``size`` bytes each."""
    filler = {f"member_{n}": f"value {n} of a webhook" for n in range(size // 36)}
    return [json.dumps({"delivery": f"{n:09d}-bench", **filler}).encode() for n in range(count)]


def main() -> None:
    """``generator.py PORT PATH SENDERS SECONDS`` prints a JSON object."""
    port, path, senders, seconds = sys.argv[1:5]
    load = asyncio.run(measure(int(port), path, make_bodies(20_000), int(senders), float(seconds)))
    print(
        json.dumps({"rate": load.rate, "p50": load.p50, "p99": load.p99, "refused": load.refused})
    )


if __name__ == "__main__":
    main()
