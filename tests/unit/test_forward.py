"""The driver of a delivery: failing targets, feeds and states, stops, and the read-ahead."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from portable_core.errors import Unavailable
from portable_core.webhooks.delivery_policy import Policy
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Attempt, Changes
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import Event, Forward, Send

FAST = Policy(concurrency=4, base_s=0.001, cap_s=0.01)


@dataclass
class State:
    """A state in memory; ``fails`` makes the next write fail."""

    position: str | None = None
    done: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    dead_letters: int = 0
    dead_letter_bytes: int = 0
    dead: list[str] = field(default_factory=list)
    fails: bool = False

    def write(self, changes: Changes[Webhook]) -> None:
        if self.fails:
            raise Unavailable("the disk is full")
        self.position = changes.position or self.position
        self.done = (self.done | set(changes.done)) - set(changes.passed)
        self.dead += [letter.item.id for letter in changes.dead]


@dataclass
class Rig:
    """A feed of numbered webhooks, and a target whose outcomes ``answer`` chooses."""

    answer: Callable[[Webhook], Outcome] = lambda webhook: Outcome(200)
    count: int = 20
    state: State = field(default_factory=State)
    sent: list[int] = field(default_factory=list)
    read: int = 0
    payload: bytes = b""
    error: Exception | None = None

    def make(self, policy: Policy = FAST, grace_s: float = 5.0) -> Forward:
        return Forward(self._read, self._open, self.state, policy, random.random, grace_s=grace_s)

    def _read(self, position: str | None) -> Iterator[Webhook | str]:
        for number in range(int(position or 0), self.count):
            self.read += 1
            yield Webhook(
                str(number + 1),
                f"{number}-1",
                source=f"s{number % 3}",
                timestamp=number,
                payload=self.payload,
            )
        if self.error is not None:
            raise self.error

    @contextmanager
    def _open(self) -> Iterator[Send]:
        yield self._send

    def _send(self, attempt: Attempt[Webhook]) -> Outcome:
        self.sent.append(attempt.item.timestamp)
        return self.answer(attempt.item)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_of_the_target_is_a_failure_that_is_retried() -> None:
    failed: set[str] = set()

    def answer(webhook: Webhook) -> Outcome:
        if webhook.id not in failed:
            failed.add(webhook.id)
            raise RuntimeError("a fault of the target")
        return Outcome(200)

    rig, events = Rig(answer), list[Event]()
    forward = rig.make()
    forward.observe = events.append
    assert forward.run() == ""
    assert (forward.counts.delivered, forward.counts.failed) == (20, 20)
    assert rig.state.position == "20"
    assert "a fault of the target" in events[0].outcome.reason


def test_a_target_that_cannot_be_opened_is_opened_again() -> None:
    rig, opened = Rig(), list[int]()
    forward = rig.make()
    target = forward.target

    def open_target() -> AbstractContextManager[Send]:
        opened.append(1)
        if len(opened) < 4:
            raise OSError("too many open files")
        return target()

    forward.target = open_target
    assert forward.run() == ""
    assert (forward.counts.delivered, forward.counts.failed) == (20, 3)


@pytest.mark.parametrize("error", [Unavailable("the feed is gone"), ZeroDivisionError()])
def test_an_error_of_the_feed_ends_the_run_after_the_requests_in_flight(error: Exception) -> None:
    def answer(webhook: Webhook) -> Outcome:
        time.sleep(0.05)
        return Outcome(200)

    rig = Rig(answer, count=3, error=error)
    forward = rig.make()
    problem = forward.run()
    assert forward.feed_failed
    assert "the feed is gone" in problem or "ZeroDivisionError" in problem
    assert len(set(rig.sent)) == forward.counts.delivered == int(rig.state.position or 0)


def test_a_state_that_cannot_be_written_ends_the_run() -> None:
    rig = Rig(state=State(fails=True))
    with pytest.raises(Unavailable, match="the disk is full"):
        rig.make(Policy(concurrency=1)).run()
    assert len(rig.sent) == 1, "nothing is sent before the outcome is durable"
    rig.state.fails = False
    assert rig.make().run() == ""
    assert sorted(set(rig.sent)) == [*range(20)]


def test_a_stop_waits_for_the_grace_and_no_longer() -> None:
    gate = threading.Event()

    def answer(webhook: Webhook) -> Outcome:
        if webhook.timestamp == 4:
            gate.wait(20)
        return Outcome(200)

    rig = Rig(answer)
    forward = rig.make(grace_s=0.3)
    early = 20 - len(range(4, 20, 3))
    stopped_at = list[float]()

    def stop(event: Event) -> None:
        if forward.counts.delivered == early:
            stopped_at.append(time.monotonic())
            forward.stop()

    forward.observe = stop
    forward.run()
    assert 0.2 < time.monotonic() - stopped_at[0] < 10
    assert rig.state.position == "4", "the webhook in flight holds the position back"
    gate.set()
    sent = len(rig.sent)
    assert rig.make().run() == ""
    assert set(rig.sent[sent:]) == {*range(4, 20)} - {int(id[:-2]) for id in delivered_early(rig)}


def delivered_early(rig: Rig) -> set[str]:
    """The ids that were delivered after the webhook in flight: 5, 6, 8, 9, … of other sources."""
    return {f"{number}-1" for number in range(5, 20) if number % 3 != 1}


def test_it_reads_no_further_than_the_window() -> None:
    gate = threading.Event()

    def answer(webhook: Webhook) -> Outcome:
        gate.wait(20)
        return Outcome(200)

    rig = Rig(answer, count=500)
    forward = rig.make(Policy(concurrency=2, window=10))
    thread = threading.Thread(target=forward.run)
    thread.start()
    wait_until(lambda: rig.read >= 10 and len(rig.sent) == 2)
    time.sleep(0.2)
    assert 10 <= rig.read <= 10 + 16 + 1
    assert len(rig.sent) == 2
    gate.set()
    thread.join(20)
    assert rig.state.position == "500"


def test_it_reads_one_large_webhook_at_a_time() -> None:
    gate = threading.Event()

    def answer(webhook: Webhook) -> Outcome:
        gate.wait(20)
        return Outcome(200)

    rig = Rig(answer, count=50, payload=bytes(2**23))
    forward = rig.make(Policy(concurrency=2, window_bytes=2**24))
    thread = threading.Thread(target=forward.run)
    thread.start()
    wait_until(lambda: rig.read >= 2)
    time.sleep(0.2)
    assert 2 <= rig.read <= 2 + 2
    gate.set()
    thread.join(20)
    assert rig.state.position == "50"


def test_a_stop_before_the_first_webhook_returns_at_once() -> None:
    def read(position: str | None) -> Iterator[Webhook | str]:
        time.sleep(20)
        yield "1"

    forward = Rig().make()
    forward.read = read
    threading.Timer(0.1, forward.stop).start()
    started = time.monotonic()
    assert forward.run() == ""
    assert time.monotonic() - started < 5
