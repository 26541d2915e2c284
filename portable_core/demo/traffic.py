"""Senders: every webhook goes to every node, each time in another spelling.

They behave as providers do: GitHub names the event in a header; a shop sends the same order under
two topics, which differ only in a header; and a payment provider puts a counter into the body
that differs from node to node.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

import aiohttp

from portable_core.demo.spelling import respell

#: Real payloads of GitHub's webhooks, with their licence beside them.
SAMPLES = Path(__file__).parents[1] / "samples"

#: The value of ``SOURCES_FILE`` that the nodes need: the counter is no part of the identity.
SOURCES_FILE = '[pay]\npreset = "stripe"\n'

_TIMEOUT = aiohttp.ClientTimeout(total=3)


@dataclass(frozen=True, slots=True)
class DemoWebhook:
    """A webhook: where it is sent, with which headers, and its body.

    ``counter`` names a member of the body that is different for each node; "" for none.
    """

    source: str
    headers: Mapping[str, str]
    body: Mapping[str, object]
    counter: str = ""

    def spell(self, attempt: int, random: Random) -> bytes:
        """Return the body as it is sent to the node of this number."""
        body = {**self.body, self.counter: attempt} if self.counter else self.body
        return respell(json.dumps(body).encode(), random)


@dataclass(slots=True)
class Deliveries:
    """The webhooks, and by node the indexes of those it received and of those it acknowledged.

    ``logged``: webhooks that only the log of their provider has.
    """

    webhooks: list[DemoWebhook]
    logged: Sequence[DemoWebhook] = ()
    received: dict[str, set[int]] = field(default_factory=dict)
    acknowledged: dict[str, set[int]] = field(default_factory=dict)

    @property
    def acknowledged_somewhere(self) -> set[int]:
        """The webhooks that at least one node acknowledged."""
        return set().union(*self.acknowledged.values())


def make_webhooks(count: int, random: Random) -> list[DemoWebhook]:
    """Return ``count`` different webhooks of three providers."""
    samples = [
        (file.name.partition(".")[0], json.loads(file.read_bytes()))
        for file in sorted(SAMPLES.glob("*.json"))
    ]
    random.shuffle(samples)

    def make_all() -> Iterator[DemoWebhook]:
        number = 0
        while True:
            for event, sample in samples:
                number += 1
                name = f"{random.getrandbits(64):016x}"
                body = {**sample, "delivery": name}
                yield DemoWebhook("github", {"X-GitHub-Event": event}, body)
                if number % 3 == 0:
                    order = {"id": number, "name": name}
                    for topic in ("orders/create", "orders/paid"):
                        yield DemoWebhook("shop", {"X-Shopify-Topic": topic}, order)
                if number % 3 == 1:
                    paid = {"id": f"evt_{name}", "type": "invoice.paid", "amount": number}
                    yield DemoWebhook("pay", {}, paid, "pending_webhooks")

    return list(islice(make_all(), count))


def make_logged_webhooks(count: int, random: Random) -> list[DemoWebhook]:
    """Return different webhooks of one provider, which names each delivery in a header."""
    chosen = [w for w in make_webhooks(3 * count, random) if w.source == "github"][:count]
    return [
        DemoWebhook(
            webhook.source,
            {**webhook.headers, "X-GitHub-Delivery": f"{random.getrandbits(128):032x}"},
            webhook.body,
        )
        for webhook in chosen
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
    pause = seconds / max(1, len(deliveries.webhooks))
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        pending: set[asyncio.Task[None]] = set()
        begun = loop.time()
        for index in range(len(deliveries.webhooks)):
            await tick(index)
            await asyncio.sleep(max(0.0, begun + index * pause - loop.time()))
            for attempt, (name, url) in enumerate(targets, 1):
                random = Random(f"{seed}/{name}/{index}")  # noqa: S311  # repeatable, not secret
                body = deliveries.webhooks[index].spell(attempt, random)
                task = asyncio.create_task(_send(session, deliveries, name, url, index, body))
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
    webhook = deliveries.webhooks[index]
    headers = {"Content-Type": "application/json", **webhook.headers}
    address = f"{url}/webhook/{webhook.source}"
    try:
        async with session.post(address, data=body, headers=headers) as response:
            deliveries.received[name].add(index)
            await response.read()
            if response.status == 200:
                deliveries.acknowledged[name].add(index)
    except (aiohttp.ClientError, TimeoutError):
        pass  # not acknowledged
