"""Registered consumers of the arrival feed: their positions and their lags.

A consumer may keep its own position. One that registers it here is watched: status, metrics and
console show its lag, and retention waits for it (:mod:`portable_core.sync.retention`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from portable_core.errors import BadRequest, NotFound, PositionUnknown
from portable_core.ports import BEGINNING, ConsumerState, MasterStore, Milliseconds
from portable_core.settings import is_node_name
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.retention import ConsumerHold, forget_missed, read_missed
from portable_core.webhooks.arrivals import NOW, format_position, list_arrivals, parse_position

#: The most consumers of a master.
MAX_CONSUMERS = 100


class ConsumersDocument(msgspec.Struct, frozen=True):
    """The document of ``GET /consumers``."""

    consumers: Sequence[ConsumerDocument]


class PositionDocument(msgspec.Struct, frozen=True):
    """The body of ``PUT /consumers/<name>``."""

    position: str


class Consumers:
    """The registered consumers of a master. Safe to use from any thread."""

    def __init__(
        self, store: MasterStore, now: Callable[[], Milliseconds], open_: Callable[[], object]
    ) -> None:
        """``now`` returns the date; ``open_`` opens the store."""
        self._store = store
        self._now = now
        self._open = open_

    def save(self, name: str, position: str) -> ConsumerDocument:
        """Register a consumer, or save its new position; durable on return.

        Raises ``BadRequest`` for an invalid name or position and if there are too many consumers,
        ``PositionUnknown`` for a position that this store did not give out.
        """
        if not is_node_name(name):
            raise BadRequest(f"consumer: {name[:80]!r} cannot be a name")
        self._open()
        if position == NOW:
            position = format_position(self._store.info().uuid, self._store.newest_arrival())
        self._find_lag(position)
        known = self._store.consumers()
        if name not in known and len(known) >= MAX_CONSUMERS:
            raise BadRequest(
                f"consumer: there are {MAX_CONSUMERS} consumers already. Delete one first."
            )
        self._store.save_consumer(name, ConsumerState(position, self._now()))
        return self.describe_one(name)

    def delete(self, name: str) -> None:
        """Forget a consumer. Raises ``NotFound``."""
        self._open()
        if name not in self._store.consumers():
            raise NotFound(f"consumer: there is no {name[:80]!r}")
        self._store.save_consumer(name, None)
        forget_missed(self._store, name)

    def find_position(self, name: str) -> str:
        """Return the position of a consumer. Raises ``NotFound``."""
        self._open()
        state = self._store.consumers().get(name)
        if state is None:
            raise NotFound(f"consumer: there is no {name[:80]!r}. Register it with PUT.")
        return state.position

    def describe(self) -> list[ConsumerDocument]:
        """Return all consumers by name, with their lags."""
        self._open()
        missed = read_missed(self._store)
        states = sorted(self._store.consumers().items())
        return [self._describe(name, state, missed.get(name)) for name, state in states]

    def describe_one(self, name: str) -> ConsumerDocument:
        """Return a consumer. Raises ``NotFound``."""
        self._open()
        state = self._store.consumers().get(name)
        if state is None:
            raise NotFound(f"consumer: there is no {name[:80]!r}. Register it with PUT.")
        return self._describe(name, state, read_missed(self._store).get(name))

    def find_holds(self) -> list[ConsumerHold]:
        """Return what each consumer has not got, for retention."""
        self._open()
        return [self._find_hold(name, state) for name, state in self._store.consumers().items()]

    def _find_hold(self, name: str, state: ConsumerState) -> ConsumerHold:
        idle = max(self._now() - state.saved, 0)
        try:
            place = parse_position(self._store.info().uuid, state.position)
        except (PositionUnknown, BadRequest):
            place = BEGINNING
        try:
            start = self._store.find_first_after(place)
            idle = min(idle, self._find_lag(state.position))
        except PositionUnknown as error:
            start = self._store.find_first_after(error.resume)
        return ConsumerHold(name, start, idle)

    def _describe(
        self, name: str, state: ConsumerState, missed: Milliseconds | None
    ) -> ConsumerDocument:
        lag, error = None, ""
        try:
            lag = self._find_lag(state.position)
        except (PositionUnknown, BadRequest) as unknown:
            error = str(unknown)
        return ConsumerDocument(name, state.position, state.saved, lag, error, missed)

    def _find_lag(self, position: str) -> Milliseconds:
        """Return for how long the first webhook after a position has been there; 0 without one."""
        place = parse_position(self._store.info().uuid, position)
        arrival = next(list_arrivals(self._store, place), None)
        if arrival is None:
            return 0
        record = arrival.record
        came = record.pair.timestamp if record.recovery is None else record.recovery.at
        return max(self._now() - came, 0)
