"""Deliver webhooks at least once: which one is sent next, and what its response means.

A :class:`Delivery` is a state machine without I/O. Its driver (:mod:`.forward`)

1. adds webhooks in the order of the feed (:meth:`Delivery.add`),
2. sends those that :meth:`Delivery.next_attempt` returns, and reports each outcome
   (:meth:`Delivery.answer`),
3. writes :meth:`Delivery.changes` durably, and reports that (:meth:`Delivery.saved`).

A webhook is in flight from 2 until its outcome is written in 3. Only then does it free its place
among ``concurrency``, and the next webhook of its source may be sent. So a process that is killed
repeats no other webhooks than those in flight.

The durable state is a position, before which every webhook is delivered or a dead letter, and the
ids of those that are delivered after the position: a webhook that waits for a retry holds the
position back, and not the webhooks of other sources.

During an outage (several webhooks fail one after the other and none succeeds), one request at a
time probes the receiver, and no webhook becomes a dead letter because of its age. The first
success ends the outage, and all retries are due at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic

from portable_core.webhooks.delivery_policy import (
    Policy,
    asks_to_pause,
    classify,
    parse_retry_after,
)
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Attempt, Changes, DeadLetter, Decision, T

#: Different webhooks that failed temporarily, with no success between them, are an outage.
OUTAGE = 3

#: A rate limit allows the requests of this time at once.
_BURST_S = 0.1


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    number: int
    position: str
    id: str = ""
    item: T | None = None  # until its outcome is written
    attempts: int = 0
    first_at: float = 0.0
    asked_until: float = float("-inf")  # by Retry-After
    answered: bool = False  # delivered or dead, perhaps not yet written
    listed: bool = False  # durably, as delivered after the position
    dead: DeadLetter[T] | None = None


@dataclass(slots=True, eq=False)
class Delivery(Generic[T]):
    """The state of a delivery; see the module. Not for several threads at once.

    - ``random`` returns a number in ``[0, 1)``.
    - ``done``: the ids that are delivered after the durable position.
    - ``position``: that position; None at the beginning.
    - ``dead_room``, ``dead_room_bytes``: room for further dead letters; the delivery stops at a
      webhook for which there is no room.
    - ``problem``: why the delivery stopped by itself; empty otherwise.
    """

    policy: Policy
    random: Callable[[], float]
    done: Iterable[str] = ()
    position: str | None = None
    dead_room: int = 10_000
    dead_room_bytes: int = 2**30
    problem: str = ""
    _entries: deque[_Entry[T]] = field(default_factory=deque)
    _by_number: dict[int, _Entry[T]] = field(default_factory=dict)
    _lanes: dict[str, deque[_Entry[T]]] = field(default_factory=dict)
    _ready: list[int] = field(default_factory=list)
    _retries: list[tuple[float, int]] = field(default_factory=list)
    _in_flight: set[int] = field(default_factory=set)
    _answered: list[_Entry[T]] = field(default_factory=list)
    _failed: set[int] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)
    _probes: int = 0
    _probe_at: float = float("-inf")
    _paused_until: float = float("-inf")
    _next_by_rate: float = float("-inf")
    _number: int = 0
    _bytes: int = 0
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._done = set(self.done)

    # -- from the feed -----------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Return whether the window has room for another webhook."""
        policy = self.policy
        return (
            len(self._by_number) < policy.window
            and self._bytes < policy.window_bytes
            and len(self._entries) < policy.ahead
        )

    def add(self, item: T, *, skip: bool = False) -> bool:
        """Add the next webhook of the feed. With ``skip``, it is not to be delivered.

        Returns False for a webhook that is not sent, because it is delivered already or skipped.
        """
        entry = self._append(item.position)
        entry.id = item.id
        entry.listed = item.id in self._done
        entry.answered = entry.listed or skip
        if entry.answered:
            return False
        entry.item = item
        self._bytes += item.size
        self._by_number[entry.number] = entry
        if not self.policy.ordered:
            heappush(self._ready, entry.number)
            return True
        lane = self._lanes.setdefault(item.source, deque())
        lane.append(entry)
        if len(lane) == 1:
            heappush(self._ready, entry.number)
        return True

    def add_position(self, position: str) -> None:
        """Add a position of the feed without a webhook."""
        if self._entries:
            self._entries[-1].position = position
        elif position != self.position:
            self._append(position).answered = True

    def _append(self, position: str) -> _Entry[T]:
        self._number += 1
        entry: _Entry[T] = _Entry(self._number, position)
        self._entries.append(entry)
        return entry

    # -- to the receiver ---------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """The number of webhooks that are sent and whose outcome is not yet written."""
        return len(self._in_flight)

    @property
    def pending(self) -> int:
        """The number of webhooks that are added and not yet delivered."""
        return len(self._by_number)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def next_attempt(self, now: float) -> Attempt[T] | None:
        """Return the next request to send; None if there is none now."""
        due = self.next_time(now)
        if due is None or due > now:
            return None
        number = heappop(self._ready)
        entry = self._by_number[number]
        assert entry.item is not None  # noqa: S101  # only webhooks are sent
        entry.attempts += 1
        if entry.attempts == 1:
            entry.first_at = now
        self._in_flight.add(number)
        if self.policy.rate is not None:
            earliest = max(self._next_by_rate, now - _BURST_S)
            self._next_by_rate = earliest + 1 / self.policy.rate
        return Attempt(number, entry.item, entry.attempts)

    def next_time(self, now: float) -> float | None:
        """Return when the next request can be sent; None if that depends on other events."""
        limit = 1 if self._in_outage else self.policy.concurrency
        if self._stopped or len(self._in_flight) >= limit:
            return None
        while self._retries and self._retries[0][0] <= now:
            heappush(self._ready, heappop(self._retries)[1])
        gate = max(self._paused_until, self._probe_at, self._next_by_rate)
        if self._ready:
            return max(now, gate)
        return max(self._retries[0][0], gate) if self._retries else None

    @property
    def _in_outage(self) -> bool:
        return len(self._failed) >= OUTAGE

    def answer(self, number: int, outcome: Outcome, now: float, now_s: float) -> Decision:
        """Decide what follows from the outcome of a request.

        ``now`` is on the clock of :meth:`next_attempt`, ``now_s`` the time since the Unix epoch.
        """
        entry = self._by_number[number]
        kind = classify(outcome)
        if kind == "delivered":
            self._end_outage()
            return self._finish(entry, None)
        in_outage = self._in_outage
        if kind == "temporary":
            self._failed.add(number)
        else:
            self._end_outage()
        if kind == "gone" and self.policy.when_gone == "stop":
            return self._halt(entry, "the receiver answered 410 Gone")
        delay = self._find_delay(entry, outcome, now, now_s)
        expired = kind == "gone" or (kind == "rejected" and self._is_rejected(entry))
        if kind == "temporary" and self.policy.retry_for_s is not None and not in_outage:
            expired = now + delay - entry.first_at > self.policy.retry_for_s
        if expired:
            return self._bury(entry, outcome)
        self._in_flight.discard(number)
        heappush(self._retries, (now + delay, number))
        return Decision("retry", delay)

    def _is_rejected(self, entry: _Entry[T]) -> bool:
        return entry.attempts >= self.policy.rejections

    def _find_delay(self, entry: _Entry[T], outcome: Outcome, now: float, now_s: float) -> float:
        delay = self.policy.delay(entry.attempts, self.random())
        asked = parse_retry_after(outcome.retry_after, now_s) if outcome.retry_after else 0.0
        if asked:
            entry.asked_until = now + asked
            if asks_to_pause(outcome):
                self._paused_until = max(self._paused_until, now + asked)
        if self._in_outage and now >= self._probe_at:
            self._probes += 1
            self._probe_at = now + self.policy.delay(self._probes, self.random())
        return max(delay, asked)

    def _end_outage(self) -> None:
        """Note that the receiver works; after an outage, make all retries due."""
        if self._in_outage:
            waiting = [self._by_number[number] for _, number in self._retries]
            self._retries = sorted((entry.asked_until, entry.number) for entry in waiting)
        self._probe_at = float("-inf")
        self._probes = 0
        self._failed.clear()

    def _halt(self, entry: _Entry[T], problem: str) -> Decision:
        self._stopped = True
        self.problem = self.problem or problem
        self._in_flight.discard(entry.number)
        heappush(self._retries, (float("inf"), entry.number))
        return Decision("stop")

    def _bury(self, entry: _Entry[T], outcome: Outcome) -> Decision:
        item = entry.item
        assert item is not None  # noqa: S101  # only webhooks are sent
        if self.dead_room < 1 or self.dead_room_bytes < item.size:
            return self._halt(entry, "there is no room for further dead letters")
        self.dead_room -= 1
        self.dead_room_bytes -= item.size
        return self._finish(entry, DeadLetter(item, entry.attempts, outcome))

    def _finish(self, entry: _Entry[T], dead: DeadLetter[T] | None) -> Decision:
        entry.answered, entry.dead = True, dead
        self._failed.discard(entry.number)
        self._answered.append(entry)
        return Decision("delivered" if dead is None else "dead")

    # -- to the durable state ----------------------------------------------------------------------

    def changes(self) -> Changes[T]:
        """Return what is to be written; :meth:`saved` must be called before the next call."""
        position, leading, last = self.position, 0, 0
        passed: list[str] = []
        for entry in self._entries:
            if not entry.answered:
                break
            position, last = entry.position, entry.number
            leading += 1
            if entry.listed:
                passed.append(entry.id)
        answered = self._answered
        return Changes(
            None if position == self.position else position,
            tuple(entry.id for entry in answered if entry.number > last),
            tuple(passed),
            tuple(entry.dead for entry in answered if entry.dead is not None),
            tuple(entry.item.key for entry in answered if entry.item and entry.item.key),
            tuple(entry.number for entry in answered),
            leading,
        )

    def saved(self, changes: Changes[T]) -> None:
        """Note that these changes are durable."""
        written = set(changes.numbers)
        self._answered = [e for e in self._answered if e.number not in written]
        listed = set(changes.done)
        for number in changes.numbers:
            entry = self._by_number.pop(number)
            self._in_flight.discard(number)
            entry.listed = entry.id in listed
            assert entry.item is not None  # noqa: S101  # only webhooks are sent
            self._bytes -= entry.item.size
            self._advance(entry.item.source)
            entry.item = entry.dead = None
        self._done.difference_update(changes.passed)
        self.position = changes.position or self.position
        for _ in range(changes.leading):
            self._entries.popleft()

    def _advance(self, source: str) -> None:
        """Make the next webhook of a source ready."""
        lane = self._lanes.get(source)
        if lane is None:
            return
        lane.popleft()
        if lane:
            heappush(self._ready, lane[0].number)
        else:
            del self._lanes[source]
