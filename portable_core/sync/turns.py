"""Syncs and hand-overs of one process take turns, and neither keeps the other waiting for long.

A stopping slave has only seconds left, so its hand-over interrupts a sync, which continues after
it. How long hand-overs may keep syncs waiting is limited by credit: a slave has as much as an
orderly stop takes, and gets it back slowly. A hand-over without credit waits for the end of the
sync. So a slave that hands over again and again delays syncs, but never prevents them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from portable_core.errors import LeaseHeld, Unavailable
from portable_core.ports import Clock

logger = logging.getLogger(__name__)

#: The credit of a slave in seconds, and what it gets back in a second; and those of all together.
SLAVE_CREDIT_S, SLAVE_REFILL = 10.0, 0.1
TOTAL_CREDIT_S, TOTAL_REFILL = 20.0, 0.5

#: An interruption needs this credit; this much is charged for what the sync has to repeat.
_LEAST_CREDIT_S = 1.0
_INTERRUPTION_S = 0.5

#: An interruption of a sync in another process ends that sync, and costs more.
ELSEWHERE_S = 2.0

#: The longest wait of a hand-over for its turn.
HAND_OVER_WAIT_S = 5.0

#: A sync continues once no hand-over came for so long: the next request of the same one is sooner.
_QUIET_S = 0.3
_POLL_S = 0.05

#: A slave hands over in one request after the other; a second one may be the retry of a first one.
_MOST_REQUESTS = 2

#: Stands for all names that are not in SLAVES.
_OTHERS = ""


class _Credit:
    """A token bucket of seconds."""

    def __init__(self, clock: Clock, most: float, refill: float) -> None:
        self._clock = clock
        self._most = most
        self._refill = refill
        self._left = most
        self._read_at = clock.monotonic()

    def read(self) -> float:
        now = self._clock.monotonic()
        self._left = min(self._most, self._left + self._refill * (now - self._read_at))
        self._read_at = now
        return self._left

    def spend(self, seconds: float) -> None:
        self._left = self.read() - seconds


class Turns:
    """The turns of one process. Safe to use from any number of threads."""

    def __init__(self, clock: Clock, slaves: Collection[str]) -> None:
        """``slaves``: those with credit of their own; all other names share one."""
        self._clock = clock
        self._changed = threading.Condition()
        self._held = False
        self._syncing = False
        self._requests: Counter[str] = Counter()
        #: The slaves whose hand-overs wait, and those that are interrupting the sync.
        self._waiting: Counter[str] = Counter()
        self._visitors: set[str] = set()
        self._total = _Credit(clock, TOTAL_CREDIT_S, TOTAL_REFILL)
        self._credits = {
            name: _Credit(clock, SLAVE_CREDIT_S, SLAVE_REFILL) for name in {*slaves, _OTHERS}
        }

    # -- hand-overs ----------------------------------------------------------------------------

    @contextmanager
    def request(self, slave: str) -> Iterator[None]:
        """Count a request of a hand-over. Raises ``Unavailable`` if the slave has too many."""
        name = self._name(slave)
        with self._changed:
            if self._requests[name] >= _MOST_REQUESTS:
                raise Unavailable(
                    f"{slave} hands over in {_MOST_REQUESTS} requests already; wait for them"
                )
            self._requests[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests[name] -= 1

    @contextmanager
    def hand_over(self, slave: str) -> Iterator[None]:
        """Hold the turn for one batch. Raises ``Unavailable`` if a sync keeps it for too long."""
        name = self._name(slave)
        with self._changed:
            self._waiting[name] += 1
            self._changed.notify_all()
            try:
                free = self._wait(lambda: self._may_hand_over(name), HAND_OVER_WAIT_S)
            finally:
                self._waiting[name] -= 1
            if not free:
                raise Unavailable("a sync is still running; hand over again in a moment")
            self._held = True
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def interrupt_elsewhere(self, slave: str) -> bool:
        """Return whether a hand-over may end a sync in another process; charge it if so."""
        name = self._name(slave)
        with self._changed:
            if not self._may_interrupt(name):
                return False
            self._charge({name}, ELSEWHERE_S)
            return True

    def _name(self, slave: str) -> str:
        return slave if slave in self._credits else _OTHERS

    def _may_hand_over(self, name: str) -> bool:
        if self._held:
            return False
        return not self._syncing or name in self._visitors

    def _may_interrupt(self, name: str) -> bool:
        return min(self._credits[name].read(), self._total.read()) >= _LEAST_CREDIT_S

    def _charge(self, names: Collection[str], seconds: float) -> None:
        self._total.spend(seconds)
        for name in names:
            self._credits[name].spend(seconds)

    # -- syncs ---------------------------------------------------------------------------------

    @contextmanager
    def sync(self) -> Iterator[None]:
        """Hold the turn of a sync, once hand-overs under way are done.

        Raises ``LeaseHeld`` while another sync of this process runs.
        """
        with self._changed:
            if self._syncing:
                raise LeaseHeld("another sync of this master is running")
            self._syncing = True
            try:
                self._let_hand_overs_pass()
                self._held = True
            except BaseException:
                self._syncing = False
                raise
        try:
            yield
        finally:
            with self._changed:
                self._held = self._syncing = False
                self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """Whether the sync that holds the turn should give way to a hand-over."""
        with self._changed:
            return any(self._may_interrupt(name) for name in self._list_waiting())

    def give_way(self) -> None:
        """Give way to the hand-overs that may interrupt a sync; return with the turn."""
        with self._changed:
            self._held = False
            self._let_hand_overs_pass()
            self._held = True

    def _let_hand_overs_pass(self) -> None:
        """Return once no hand-over comes any more, or those that come have no credit left."""
        charged_at = self._clock.monotonic()
        busy_at = time.monotonic()
        while self._held or self._visitors or self._admit():
            self._changed.wait(_POLL_S)
            now = self._clock.monotonic()
            self._charge(self._visitors, now - charged_at)
            charged_at = now
            self._admit()
            self._dismiss()
            if self._held or any(name in self._visitors for name in self._list_waiting()):
                busy_at = time.monotonic()
            elif time.monotonic() - busy_at >= _QUIET_S:
                self._visitors.clear()

    def _admit(self) -> bool:
        """Admit the hand-overs that wait and may interrupt a sync; return whether there are any."""
        new = {
            n for n in self._list_waiting() if n not in self._visitors and self._may_interrupt(n)
        }
        if new:
            self._charge(new, _INTERRUPTION_S)
            self._visitors |= new
            self._changed.notify_all()
        return bool(new)

    def _dismiss(self) -> None:
        for name in list(self._visitors):
            if min(self._credits[name].read(), self._total.read()) <= 0:
                self._visitors.remove(name)
                logger.warning(
                    "hand-overs of %s have kept a sync waiting for too long; they wait for its end",
                    name or "slaves that are not in SLAVES",
                )

    def _list_waiting(self) -> list[str]:
        return [name for name, count in self._waiting.items() if count]

    # -- waiting -------------------------------------------------------------------------------

    def wait_until_free(self, seconds: float) -> None:
        """Wait until nothing holds the turn."""
        with self._changed:
            self._wait(lambda: not self._held, seconds)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait with the lock released between two looks; return whether ``condition`` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            self._changed.wait(min(rest, _POLL_S * 5))
        return True
