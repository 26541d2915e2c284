"""Sends every webhook to every node, each in another spelling, and notes who acknowledged it."""

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
class Ledger:
    """What the senders know: per node, which webhooks reached it and which it acknowledged."""

    payloads: list[bytes]
    received: dict[str, set[int]] = field(default_factory=dict)
    acknowledged: dict[str, set[int]] = field(default_factory=dict)

    @property
    def kept_somewhere(self) -> set[int]:
        """The webhooks that at least one node acknowledged."""
        return set().union(*self.acknowledged.values())


def make_payloads(count: int, random: Random) -> list[bytes]:
    """``count`` different webhooks, made of the sample payloads in turn."""
    samples = [json.loads(file.read_bytes()) for file in sorted(SAMPLES.glob("*.json"))]
    random.shuffle(samples)
    return [
        json.dumps(
            {**samples[index % len(samples)], "delivery": f"{random.getrandbits(64):016x}"}
        ).encode()
        for index in range(count)
    ]


async def send_all(
    ledger: Ledger,
    targets: Sequence[tuple[str, str]],
    seconds: float,
    seed: int,
    tick: Callable[[int], Awaitable[None]],
) -> None:
    """Send the ledger's webhooks, evenly over ``seconds``, to all ``targets`` (name, address).

    ``tick`` is awaited with the number of webhooks begun, before each. A node that does not answer
    200 has missed the webhook: nothing is sent again.
    """
    for name, _ in targets:
        ledger.received.setdefault(name, set())
        ledger.acknowledged.setdefault(name, set())
    pause = seconds / max(1, len(ledger.payloads))
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        pending: set[asyncio.Task[None]] = set()
        begun = loop.time()
        for index in range(len(ledger.payloads)):
            await tick(index)
            await asyncio.sleep(max(0.0, begun + index * pause - loop.time()))
            for name, url in targets:
                spelling = respell(ledger.payloads[index], Random(f"{seed}/{name}/{index}"))  # noqa: S311  # repeatable, not secret
                task = asyncio.create_task(_send(session, ledger, name, url, index, spelling))
                pending.add(task)
                task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)


async def _send(
    session: aiohttp.ClientSession, ledger: Ledger, name: str, url: str, index: int, body: bytes
) -> None:
    headers = {"Content-Type": "application/json", "X-GitHub-Delivery": f"demo-{index}"}
    try:
        async with session.post(f"{url}/webhook/github", data=body, headers=headers) as answer:
            ledger.received[name].add(index)
            await answer.read()
            if answer.status == 200:
                ledger.acknowledged[name].add(index)
    except (aiohttp.ClientError, TimeoutError):
        pass  # not acknowledged, which is all a sender learns
