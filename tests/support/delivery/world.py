"""A delivery in simulated time: a receiver with faults, kills, and a record of all requests."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from portable_core.webhooks.delivery import Delivery
from portable_core.webhooks.delivery_policy import Policy
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Attempt, Changes

#: The outcomes of a receiver with faults.
FAULTS = (
    Outcome(0, "no connection"),
    Outcome(500),
    Outcome(503, "", "2"),
    Outcome(429, "", "5"),
    Outcome(404),
    Outcome(302),
)


@dataclass(frozen=True)
class Webhook:
    number: int
    source: str
    skip: bool = False
    size: int = 1

    @property
    def key(self) -> str:
        return f"key-{self.number}"

    @property
    def id(self) -> str:
        return f"id-{self.number}"

    @property
    def position(self) -> str:
        return f"p{self.number:06}"


@dataclass(frozen=True)
class Request:
    """A request that the receiver saw; ``run`` counts the starts of the sender."""

    webhook: Webhook
    sent: float
    outcome: Outcome
    run: int


@dataclass
class Durable:
    """The state that survives a kill."""

    position: str = ""
    done: set[str] = field(default_factory=set)
    dead: list[str] = field(default_factory=list)

    def write(self, changes: Changes[Webhook]) -> None:
        self.position = changes.position or self.position
        self.done |= set(changes.done)
        self.done -= set(changes.passed)
        self.dead += [letter.item.id for letter in changes.dead]


@dataclass
class World:
    """Webhooks, a receiver, and a driver that is killed at random."""

    webhooks: list[Webhook]
    policy: Policy
    rng: random.Random
    answer: Callable[[Webhook, int, float], Outcome]  # webhook, requests before, time
    kill_rate: float = 0.0
    dead_room: int = 10_000
    latency_s: float = 1.0  # the longest
    durable: Durable = field(default_factory=Durable)
    requests: list[Request] = field(default_factory=list)
    in_flight_at_kills: set[str] = field(default_factory=set)
    now: float = 0.0
    runs: int = 0
    problem: str = ""
    _seen: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def run(self, steps: int = 200_000) -> None:
        """Deliver until all is delivered, or the delivery stops by itself."""
        self._start()
        for _ in range(steps):
            if self.rng.random() < self.kill_rate:
                self.in_flight_at_kills |= {a.item.id for _, a, _ in self.flying}
                self.in_flight_at_kills |= {a.item.id for a in self.unwritten}
                self._start()
            self._read()
            self._step()
            self.check()
            if self.delivery.stopped and not self.flying and not self.delivery.changes():
                self.problem = self.delivery.problem
                return
            at_end = self._feed == len(self.webhooks) and not self.delivery.pending
            if at_end and not self.delivery.changes():
                return
        raise AssertionError("the delivery does not end")

    def _start(self) -> None:
        self.runs += 1
        self.delivery: Delivery[Webhook] = Delivery(
            self.policy, self.rng.random, done=tuple(self.durable.done), dead_room=self.dead_room
        )
        self.flying: list[tuple[float, Attempt[Webhook], Outcome]] = []
        self.unwritten: list[Attempt[Webhook]] = []
        positions = [webhook.position for webhook in self.webhooks]
        self._feed = sum(position <= self.durable.position for position in positions)

    def _read(self) -> None:
        while self._feed < len(self.webhooks) and self.delivery.has_room:
            webhook = self.webhooks[self._feed]
            self.delivery.add(webhook, skip=webhook.skip)
            if self.rng.random() < 0.2:
                self.delivery.add_position(f"{webhook.position}-end")
            self._feed += 1

    def _step(self) -> None:
        """Do one thing: write, send, or let time pass until the next event."""
        if self.delivery.changes() and self.rng.random() < 0.5:
            changes = self.delivery.changes()
            self.durable.write(changes)
            self._check_durable()
            self.delivery.saved(changes)
            self.unwritten.clear()
            return
        attempt = self.delivery.next_attempt(self.now)
        if attempt is not None:
            webhook = attempt.item
            assert not webhook.skip
            outcome = self.answer(webhook, self._seen[webhook.id], self.now)
            self._seen[webhook.id] += 1
            self.requests.append(Request(webhook, self.now, outcome, self.runs))
            self.flying.append((self.now + self.rng.random() * self.latency_s, attempt, outcome))
            return
        events = [time for time, _, _ in self.flying]
        due = self.delivery.next_time(self.now)
        if due is not None:
            events.append(due)
        if not events:
            return  # only a write is left
        self.now = max(self.now, min(events))
        for landed in [one for one in self.flying if one[0] <= self.now]:
            self.flying.remove(landed)
            _, attempt, outcome = landed
            decision = self.delivery.answer(attempt.number, outcome, self.now, self.now)
            if decision.kind in ("delivered", "dead"):
                self.unwritten.append(attempt)

    # -- laws --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what holds at every moment."""
        busy = [attempt.item for _, attempt, _ in self.flying]
        busy += [attempt.item for attempt in self.unwritten]
        assert len(busy) <= self.policy.concurrency
        assert self.delivery.in_flight == len(busy)
        if self.policy.ordered:
            assert len({webhook.source for webhook in busy}) == len(busy)

    def _check_durable(self) -> None:
        """Check that the durable state claims nothing that has not happened."""
        ended = self.accepted() | set(self.durable.dead)
        ended |= {webhook.id for webhook in self.webhooks if webhook.skip}
        for webhook in self.webhooks:
            if webhook.position <= self.durable.position or webhook.id in self.durable.done:
                assert webhook.id in ended, webhook

    def accepted(self) -> set[str]:
        return {request.webhook.id for request in self.requests if request.outcome.ok}
