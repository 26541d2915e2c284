"""Senders of a chaos run: like a provider, they retry; the ledger records every response.

Open loop: each webhook is sent when it is due, whatever happened to the one before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from random import Random

import aiohttp

from loadtests.ledger import DELIVERY_HEADER, Ledger
from loadtests.timeline import Timeline
from loadtests.webhooks import Webhooks
from portable_core.records import Pair

SOURCE = "github"

#: After how many seconds a sender retries; the third retry is later than a span.
RETRIES_S = (0.7, 2.5, 18.0)
_RETRY_SHARE = 0.5  # of the webhooks; the other senders never retry
_DUPLICATE_SHARE = 0.02  # of the webhooks are sent again although they were acknowledged
_SINGLE_SHARE = 0.25  # of the senders know one slave only, whose losses nothing repairs
_TIMEOUT = aiohttp.ClientTimeout(total=4)


class ChaosSenders:
    """Send to all ``targets`` (name, address); some webhooks to one of ``single`` only."""

    def __init__(
        self,
        ledger: Ledger,
        timeline: Timeline,
        webhooks: Webhooks,
        targets: Mapping[str, str],
        single: Sequence[str],
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._webhooks = webhooks
        self._targets = targets
        self._single = single
        self._seed = seed

    async def send(self, count: int, rate: float) -> None:
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=64)
        async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector) as session:
            pending: set[asyncio.Task[None]] = set()
            begun = loop.time()
            for number in range(count):
                await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))
                value = self._ledger.add(number, self._webhooks.spell(number, 0))
                for index, node in self._choose_nodes(number):
                    body = self._webhooks.spell(number, index)
                    task = asyncio.create_task(self._deliver(session, node, number, value, body))
                    pending.add(task)
                    task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

    def _choose_nodes(self, number: int) -> list[tuple[int, str]]:
        random = Random(f"{self._seed}/{number}")
        only = random.choice(self._single) if random.random() < _SINGLE_SHARE else None
        return [each for each in enumerate(self._targets) if only in (None, each[1])]

    async def _deliver(
        self, session: aiohttp.ClientSession, node: str, number: int, value: bytes, body: bytes
    ) -> None:
        random = Random(f"{self._seed}/{node}/{number}")
        waits = RETRIES_S if random.random() < _RETRY_SHARE else ()
        duplicate = random.random() < _DUPLICATE_SHARE
        done = await self._try(session, node, number, value, body)
        for wait in waits:
            if done and not duplicate:
                return
            duplicate = False
            await asyncio.sleep(wait)
            done = await self._try(session, node, number, value, body) or done

    async def _try(
        self, session: aiohttp.ClientSession, node: str, number: int, value: bytes, body: bytes
    ) -> bool:
        name = self._webhooks.name(number)
        headers = {"Content-Type": "application/json", DELIVERY_HEADER: name}
        self._ledger.send(node, value, SOURCE, body, name)
        timeline = self._timeline
        begun = timeline.now()
        try:
            async with session.post(
                f"{self._targets[node]}/webhook/{SOURCE}", data=body, headers=headers
            ) as answer:
                document = await answer.read()
                if answer.status == 200:
                    pair = json.loads(document)
                    ended = timeline.now()
                    self._ledger.acknowledge(
                        node, value, Pair(pair["timestamp"], pair["hash"]), ended
                    )
                    timeline.latencies.append((begun, node, (ended - begun) * 1000))
                    return True
                why = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = type(error).__name__  # all that a sender knows: it is not acknowledged
        self._ledger.refuse(node, why)
        timeline.refused.append((begun, node))
        return False
