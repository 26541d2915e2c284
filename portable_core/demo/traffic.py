"""Senders: every webhook goes to every node, each time in another spelling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp

from portable_core.demo.spelling import respell

#: Real payloads of GitHub's webhooks, with their licence beside them.
SAMPLES = Path(__file__).parents[1] / "samples"

_TIMEOUT = aiohttp.ClientTimeout(total=3)


@dataclass(slots=True)
class Deliveries:
    """The webhooks, and by node the indexes of those it received and of those it acknowledged."""

    payloads: list[bytes]
    received: dict[str, set[int]] = field(default_factory=dict)
    acknowledged: dict[str, set[int]] = field(default_factory=dict)

    @property
    def acknowledged_somewhere(self) -> set[int]:
        """The webhooks that at least one node acknowledged."""
        return set().union(*self.acknowledged.values())


def make_payloads(count: int, random: Random) -> list[bytes]:
    """Return ``count`` different webhooks, made from the sample payloads in turn."""
    samples = [json.loads(file.read_bytes()) for file in sorted(SAMPLES.glob("*.json"))]
    random.shuffle(samples)
    return [
        json.dumps(
            {**samples[index % len(samples)], "delivery": f"{random.getrandbits(64):016x}"}
        ).encode()
        for index in range(count)
    ]


async def send_all(
    deliveries: Deliveries,
    targets: Sequence[tuple[str, str]],
    seconds: float,
    seed: int,
    tick: Callable[[int], Awaitable[None]],
) -> None:
    """Send the webhooks, evenly over ``seconds``, to all ``targets`` (name, address).

    ``tick`` is awaited before each webhook, with its index. Nothing is retried: a node that does
    not answer 200 has missed the webhook.
    """
    for name, _ in targets:
        deliveries.received.setdefault(name, set())
        deliveries.acknowledged.setdefault(name, set())
    pause = seconds / max(1, len(deliveries.payloads))
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        pending: set[asyncio.Task[None]] = set()
        begun = loop.time()
        for index in range(len(deliveries.payloads)):
            await tick(index)
            await asyncio.sleep(max(0.0, begun + index * pause - loop.time()))
            for name, url in targets:
                spelling = respell(deliveries.payloads[index], Random(f"{seed}/{name}/{index}"))  # noqa: S311  # repeatable, not secret
                task = asyncio.create_task(_send(session, deliveries, name, url, index, spelling))
                pending.add(task)
                task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)


async def _send(
    session: aiohttp.ClientSession,
    deliveries: Deliveries,
    name: str,
    url: str,
    index: int,
    body: bytes,
) -> None:
    headers = {"Content-Type": "application/json", "X-GitHub-Delivery": f"demo-{index}"}
    try:
        async with session.post(f"{url}/webhook/github", data=body, headers=headers) as response:
            deliveries.received[name].add(index)
            await response.read()
            if response.status == 200:
                deliveries.acknowledged[name].add(index)
    except (aiohttp.ClientError, TimeoutError):
        pass  # not acknowledged
