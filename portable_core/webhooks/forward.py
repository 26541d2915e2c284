"""Forward: drive a delivery with threads, from a feed to a receiver.

One thread reads the feed, one for each request in flight sends, and the caller's thread alone
touches the :class:`.Delivery` and writes its changes: outcomes that arrive during a write are
written together by the next one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from portable_core.errors import WebhookSyncError
from portable_core.webhooks.delivery import Delivery
from portable_core.webhooks.delivery_policy import Policy
from portable_core.webhooks.delivery_request import (
    Connect,
    Outcome,
    describe_delivery,
    make_headers,
)
from portable_core.webhooks.delivery_values import Attempt, Changes, Decision
from portable_core.webhooks.feed_webhook import Webhook

#: The keys of so many webhooks are remembered, durably, to skip their repeats.
MAX_KEYS = 10_000

#: Webhooks that are read while the window is full, or during a write; one of more bytes counts as
#: several.
_READ_AHEAD = 16
_READ_AHEAD_BYTES = 256 * 1024

#: Sends one attempt, for one thread. Raises nothing.
Send = Callable[[Attempt[Webhook]], Outcome]

#: Opens what :data:`Send` needs, for one thread.
Target = Callable[[], AbstractContextManager[Send]]


class DeliveryState(Protocol):
    """The durable state of a delivery. Its methods raise ``Unavailable``."""

    @property
    def position(self) -> str | None: ...
    @property
    def done(self) -> frozenset[str]: ...
    @property
    def keys(self) -> Sequence[str]:
        """The keys of the last ``MAX_KEYS`` webhooks that ended, oldest first."""
        ...

    @property
    def dead_letters(self) -> int: ...
    @property
    def dead_letter_bytes(self) -> int: ...

    def write(self, changes: Changes[Webhook]) -> None:
        """Write changes in one transaction; durable on return."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """The outcome of a request, and what follows from it."""

    attempt: Attempt[Webhook]
    outcome: Outcome
    decision: Decision
    seconds: float


@dataclass(slots=True)
class Counts:
    """What a run has done so far. ``position`` is the durable one."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    skipped: int = 0
    pending: int = 0
    in_flight: int = 0
    position: str | None = None
    timestamp: int = 0  # of the webhook delivered last


@dataclass(frozen=True, slots=True)
class _Answered:
    attempt: Attempt[Webhook]
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class _FeedEnded:
    error: Exception | None


_Message = Webhook | str | _Answered | _FeedEnded | None


@dataclass(slots=True, eq=False)
class Forward:
    """One run, from the state's position until :meth:`stop`, a problem, or the end of the feed.

    - ``read``: yields the webhooks after a position, and positions without a webhook.
    - ``grace_s``: how long a stop waits for requests in flight.
    - ``feed_failed``: the feed ended the run.
    - ``observe``: called with each event, from the thread of :meth:`run`.
    """

    read: Callable[[str | None], Iterator[Webhook | str]]
    target: Target
    state: DeliveryState
    policy: Policy
    random: Callable[[], float]
    skip_repeats: bool = False
    max_dead_letters: int = 10_000
    max_dead_letter_bytes: int = 2**30
    grace_s: float = 10.0
    observe: Callable[[Event], object] = lambda event: None
    counts: Counts = field(default_factory=Counts)
    feed_failed: bool = False
    _inbox: queue.SimpleQueue[_Message] = field(default_factory=queue.SimpleQueue)
    _work: queue.SimpleQueue[Attempt[Webhook] | None] = field(default_factory=queue.SimpleQueue)
    _room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_READ_AHEAD))
    _stopping: threading.Event = field(default_factory=threading.Event)
    _senders: list[threading.Thread] = field(default_factory=list)
    _backlog: deque[Webhook | str] = field(default_factory=deque)
    _keys: dict[str, None] = field(default_factory=dict)
    _reading: bool = True
    _problem: str = ""

    def stop(self) -> None:
        """Start no more requests; :meth:`run` then returns within ``grace_s``. From any thread."""
        self._stopping.set()
        self._inbox.put(None)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self) -> str:
        """Deliver until the end. Returns the problem that ended the run; empty without one.

        Raises ``Unavailable`` if the state cannot be written.
        """
        state = self.state
        self.counts.position = state.position
        self._keys = dict.fromkeys(state.keys if self.skip_repeats else ())
        delivery: Delivery[Webhook] = Delivery(
            self.policy,
            self.random,
            done=state.done,
            position=state.position,
            dead_room=self.max_dead_letters - state.dead_letters,
            dead_room_bytes=self.max_dead_letter_bytes - state.dead_letter_bytes,
        )
        threading.Thread(target=self._read_feed, args=(state.position,), daemon=True).start()
        try:
            self._run(delivery)
        finally:
            self._stopping.set()
            self._room.release(_READ_AHEAD)
            for _ in self._senders:
                self._work.put(None)
        return self._problem or delivery.problem

    def _run(self, delivery: Delivery[Webhook]) -> None:
        deadline: float | None = None
        while True:
            now = time.monotonic()
            if self._stopping.is_set():
                delivery.stop()
            if delivery.stopped and deadline is None:
                deadline = now + self.grace_s
            self._fill(delivery)
            while (attempt := delivery.next_attempt(now)) is not None:
                self._dispatch(attempt, delivery.in_flight)
            changes = delivery.changes()
            if changes:
                self.state.write(changes)
                delivery.saved(changes)
                self.counts.position = self.state.position
                self._receive(delivery, 0.0)
                continue
            self.counts.pending, self.counts.in_flight = delivery.pending, delivery.in_flight
            if self._is_over(delivery, now, deadline):
                return
            due = delivery.next_time(now)
            limits = [one - now for one in (due, deadline) if one is not None]
            self._receive(delivery, min(limits, default=None))

    def _is_over(self, delivery: Delivery[Webhook], now: float, deadline: float | None) -> bool:
        if deadline is not None:
            return not delivery.in_flight or now >= deadline
        return not self._reading and not self._backlog and not delivery.pending

    def _fill(self, delivery: Delivery[Webhook]) -> None:
        """Add webhooks that were read to the window, as far as it has room."""
        while self._backlog and delivery.has_room:
            read = self._backlog.popleft()
            self._room.release(_find_cost(read))
            if isinstance(read, str):
                delivery.add_position(read)
            elif not delivery.add(read, skip=self.skip_repeats and self._is_repeat(read)):
                self.counts.skipped += 1

    def _is_repeat(self, webhook: Webhook) -> bool:
        """Return whether the key came before; remember it."""
        if not webhook.key:
            return False
        if webhook.key in self._keys:
            return True
        self._keys[webhook.key] = None
        if len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        return webhook.repeat

    def _receive(self, delivery: Delivery[Webhook], timeout: float | None) -> None:
        """Process the messages of the other threads; wait for the first one."""
        try:
            message = self._inbox.get(timeout != 0.0, timeout and max(timeout, 0.0))
            while True:
                self._process(delivery, message)
                message = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _process(self, delivery: Delivery[Webhook], message: _Message) -> None:
        if isinstance(message, _Answered):
            attempt, outcome = message.attempt, message.outcome
            decision = delivery.answer(attempt.number, outcome, time.monotonic(), time.time())
            self._count(attempt, decision)
            self.observe(Event(attempt, outcome, decision, message.seconds))
        elif isinstance(message, _FeedEnded):
            self._reading = False
            if message.error is not None:
                self._problem, self.feed_failed = str(message.error), True
                delivery.stop()
        elif message is not None:
            self._backlog.append(message)

    def _count(self, attempt: Attempt[Webhook], decision: Decision) -> None:
        counts = self.counts
        if decision.kind == "delivered":
            counts.delivered += 1
            counts.timestamp = attempt.item.timestamp
        else:
            counts.failed += 1
            counts.dead += decision.kind == "dead"

    # -- the other threads -------------------------------------------------------------------------

    def _read_feed(self, position: str | None) -> None:
        try:
            for read in self.read(position):
                for _ in range(_find_cost(read)):
                    self._room.acquire()
                if self._stopping.is_set():
                    return
                self._inbox.put(read)
            error: Exception | None = None
        except WebhookSyncError as problem:
            error = problem
        except Exception as problem:  # noqa: BLE001  # the run ends with it
            error = RuntimeError(f"an unexpected error in the feed: {problem!r}")
        self._inbox.put(_FeedEnded(error))

    def _dispatch(self, attempt: Attempt[Webhook], in_flight: int) -> None:
        self._work.put(attempt)
        if len(self._senders) < in_flight:
            sender = threading.Thread(target=self._send_all, daemon=True)
            sender.start()
            self._senders.append(sender)

    def _send_all(self) -> None:
        with ExitStack() as stack:
            send: Send | None = None
            while (attempt := self._work.get()) is not None:
                started = time.monotonic()
                try:
                    send = send or stack.enter_context(self.target())
                    outcome = send(attempt)
                except Exception as error:  # noqa: BLE001  # it is retried
                    outcome = Outcome(0, f"an unexpected error: {error!r}"[:200])
                self._inbox.put(_Answered(attempt, outcome, time.monotonic() - started))


def _find_cost(read: Webhook | str) -> int:
    """Return the share of the read-ahead that a webhook or a position uses."""
    size = 0 if isinstance(read, str) else read.size
    return min(1 + size // _READ_AHEAD_BYTES, _READ_AHEAD)


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Sends attempts to an address. With a ``secret``, they are signed (Standard Webhooks)."""

    url: str
    connect: Connect
    secret: str = ""

    def __call__(self) -> AbstractContextManager[Send]:
        return _HttpSending(self)


class _HttpSending(AbstractContextManager[Send]):
    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._opened = target.connect(target.url)

    def __enter__(self) -> Send:
        self._connection = self._opened.__enter__()
        return self._send

    def __exit__(self, *exc: object) -> None:
        self._opened.__exit__(None, None, None)

    def _send(self, attempt: Attempt[Webhook]) -> Outcome:
        record = attempt.item.record
        headers = make_headers(record, self._target.secret, int(time.time()))
        headers |= describe_delivery(record, "forwarded", attempt.attempt)
        return self._connection.post(headers, record.payload, record.meta.query)
