"""What the load generator counts: a stall delays every webhook that was due during it."""

from __future__ import annotations

import asyncio

from loadtests.generator import Load, make_bodies, measure

STALL_S = 0.5


async def _measure(rate: float) -> Load:
    """Send for a second to a server that answers nothing during the first half of it."""
    stalled = asyncio.get_running_loop().time() + STALL_S

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r")[0]))
            await asyncio.sleep(stalled - asyncio.get_running_loop().time())
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.Task[None]:
        return asyncio.ensure_future(serve(reader, writer))

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = await measure(port, "/", make_bodies(10), senders=2, seconds=2 * STALL_S, rate=rate)
    server.close()
    return load


def test_an_open_load_counts_from_when_a_webhook_was_due() -> None:
    load = asyncio.run(_measure(rate=200))
    assert load.refused == 0
    assert 150 < load.rate < 210
    assert load.p90 > 300  # half of all waited, half a second at most
    assert load.p999 > 400


def test_a_closed_load_does_not() -> None:
    """Each of two senders has one slow webhook, whatever came meanwhile."""
    load = asyncio.run(_measure(rate=0))
    assert load.rate > 300
    assert load.p90 < 300
