"""The receiving side of a node, the same for both roles: hash, timestamp, group commit.

A receiver opens its store when it is first used, so that it can be made before a server forks.
While another process holds the store, every use tries again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from portable_core.epochs import Stint
from portable_core.errors import (
    PayloadTooLarge,
    Stopping,
    StoreError,
    StoreFull,
    StoreLocked,
    Unavailable,
)
from portable_core.ingest.buffer import Buffer
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.ingest.clock_status import ClockStatus, describe_clock
from portable_core.ingest.committer import Committer
from portable_core.ingest.flusher import Flusher
from portable_core.ingest.identifier import Identified, Identifier
from portable_core.ingest.outcome import Outcome, Resolvable
from portable_core.ingest.pending import BufferStatus
from portable_core.ingest.plausible_clock import PlausibleClock
from portable_core.ingest.recent_keys import RecentKeys
from portable_core.ingest.rule_history import remember_rules
from portable_core.ingest.stints import Stints
from portable_core.ingest.timestamps import find_most_lead
from portable_core.payload_hash.algorithms import ALGORITHMS, check_algorithm
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Clock, Milliseconds, Store, StoreInfo, StoreStatus
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings

logger = logging.getLogger(__name__)

#: The name of the mark that holds the last reported horizon: no timestamp may be assigned before
#: it, not even after a restart with a clock that was set back.
HORIZON_MARK = "horizon"

#: The longest that the last commits may take when a node is closed, in seconds: what a platform
#: still allows after the server has drained (``adapters.server.stopping``).
CLOSE_S = 2.5

_OPENING_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The state of a node for people and metrics."""

    info: StoreInfo
    store: StoreStatus
    buffer: BufferStatus
    horizon: Milliseconds
    now: Milliseconds
    clock: ClockStatus = field(default_factory=ClockStatus)


def find_fill(buffer: BufferStatus, settings: Settings) -> float:
    """Return the fill level of the buffer: at 1, webhooks get 503."""
    return max(buffer.records / settings.buffer_records, buffer.bytes / settings.buffer_bytes)


def name_algorithm(settings: Settings) -> str:
    """Return the algorithm's name as stores and nodes compare it.

    A keyed algorithm's name ends with a fingerprint of the key: nodes with different keys have
    unrelated hashes, and must not sync. :data:`ALGORITHM_NAMES` matches the names.
    """
    if not settings.hash_key or not check_algorithm(settings.hash).keyed:
        return settings.hash
    fingerprint = hash_payload(b'{"webhook-sync":"key"}', settings.hash, settings.hash_key)
    return f"{settings.hash}-{fingerprint:x}"


#: A regular expression (ECMA-262 and Python) of every name that :func:`name_algorithm` returns.
ALGORITHM_NAMES = "^({})$".format(
    "|".join(f"{row.name}-[0-9a-f]+" if row.keyed else row.name for row in ALGORITHMS.values())
)


class CommitObserver(Protocol):
    """What a receiver reports to; :class:`portable_core.sync.observer.Observer` is one."""

    def observe_commit(self, records: int, seconds: float, done: bool) -> None:
        """Note the end of a commit of so many records; ``done`` is whether it succeeded."""
        ...


class Receiver:
    """Receives webhooks into a store. Safe to use from any number of threads."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        *,
        observer: CommitObserver | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = PlausibleClock(clock, settings.span_ms)
        self.algorithm = name_algorithm(settings)
        self.identifier = Identifier(settings.hash, settings.hash_key, settings.sources.rules)
        #: The keys of webhooks stored last; kept on a master.
        self.recent_keys = RecentKeys()
        #: The UUID of the store, once it is open.
        self.store_uuid = ""
        self._observer = observer
        self._opening = threading.Lock()
        self._following = threading.Lock()
        self._followed_at: float | None = None
        self._buffer: Buffer | None = None
        self._stints = Stints(store)
        self._drained = False
        self._flusher: Flusher | None = None
        self._committer: Committer | None = None

    # -- opening -------------------------------------------------------------------------------

    def open(self) -> Buffer:
        """Open the store, unless it is open, and return the buffer in front of it.

        Raises ``StoreLocked`` while another process is its writer.
        """
        buffer = self._buffer
        if buffer is not None:
            return buffer
        if not self._opening.acquire(timeout=_OPENING_WAIT_S):
            raise StoreLocked("the store is still being opened; try again")
        try:
            if self._buffer is None:
                if self._drained:
                    raise Stopping("this node is being stopped; send the webhook again")
                self._buffer = self._open()
            return self._buffer
        finally:
            self._opening.release()

    def _open(self) -> Buffer:
        settings, store = self.settings, self.store
        self.store_uuid = store.open(self.algorithm).uuid
        self._stints = Stints(store)  # not that of the process before a fork
        remember_rules(store, self.identifier.rules)
        limits = BufferLimits(
            commit_timeout_s=settings.commit_timeout_ms / 1000,
            linger_s=settings.linger_ms / 1000,
            records=settings.buffer_records,
            bytes=settings.buffer_bytes,
            lead_ms=find_most_lead(settings.span_ms),
        )
        buffered = settings.ack == "buffered"
        floor = self._find_floor()
        buffer = Buffer(self._append, self.clock, limits, floor, keep_failed=buffered)
        for warning in describe_clock(self._find_clock_status(buffer), settings.span_ms):
            logger.warning(warning)
        if buffered:
            self._flusher = Flusher(buffer, settings.flush_interval_ms / 1000)
        else:
            self._committer = Committer(buffer)
        return buffer

    def _find_floor(self) -> Milliseconds:
        """Return the first timestamp that may be assigned after a restart with any clock."""
        floor = self.store.mark(HORIZON_MARK)
        if not self.store.shared:
            last = self.store.last()
            floor = max(floor, 0 if last is None else last + 1)
        return floor

    def _append(self, records: Sequence[Record], deadline: float) -> None:
        started = self.clock.monotonic()
        done = False
        try:
            self.store.append(records, deadline)
            done = True
            if self.settings.role == "master":
                for record in records:
                    self.recent_keys.add(record.meta.key)
        finally:
            if self._observer is not None:
                seconds = self.clock.monotonic() - started
                self._observer.observe_commit(len(records), seconds, done)

    # -- receiving -----------------------------------------------------------------------------

    def receive(self, payload: bytes, meta: Meta) -> Pair:
        """Store one webhook and return its pair; from then on it counts as acknowledged.

        The timestamp is assigned here, so the payload must be complete. Raises
        ``MalformedPayload``, ``PayloadTooLarge``, and ``Unavailable`` if it was not stored.
        """
        buffer, (hash_, meta) = self._prepare(payload, meta)
        if self._flusher is None:
            pair = buffer.commit(hash_, payload, meta)
        else:
            pair = buffer.add(hash_, payload, meta)
            self._flusher.notify()
        return pair

    def flush_soon(self) -> None:
        """Commit acknowledged webhooks within a moment from now on: the node is being stopped."""
        if self._flusher is not None:
            self._flusher.flush_soon()

    @property
    def is_prompt(self) -> bool:
        """Whether :meth:`submit` returns at once: it neither opens the store nor asks it."""
        return self._buffer is not None and not (self.store.shared and self._must_follow())

    def submit(self, payload: bytes, meta: Meta) -> Outcome[Pair]:
        """Add a webhook and return the outcome of its commit; see :meth:`Buffer.submit`.

        With ``ACK=buffered`` the outcome is known at once. Otherwise the caller sees to it that a
        thread calls :meth:`flush`, or :meth:`commit_soon`. Raises what :meth:`receive` raises
        before the commit.
        """
        outcome: Outcome[Pair] = Outcome()
        self.submit_to(outcome, payload, meta)
        return outcome

    def submit_to(self, outcome: Resolvable[Pair], payload: bytes, meta: Meta) -> None:
        """Add a webhook whose commit resolves ``outcome``, as :meth:`submit` does."""
        buffer, (hash_, meta) = self._prepare(payload, meta)
        if self._flusher is None:
            buffer.submit_to(outcome, hash_, payload, meta)
        else:
            outcome.set_result(buffer.add(hash_, payload, meta))
            self._flusher.notify()

    def commit_soon(self) -> None:
        """Wake the thread that commits what was submitted. Returns at once."""
        if self._committer is not None:
            self._committer.notify()

    def _prepare(self, payload: bytes, meta: Meta) -> tuple[Buffer, Identified]:
        if len(payload) > self.settings.max_body_bytes:
            raise PayloadTooLarge(f"the body is larger than {self.settings.max_body_bytes} bytes")
        identified = self.identifier.identify(payload, meta)
        buffer = self.open()
        if self.store.shared:
            self._check_clock()
            self._follow_other_writers(buffer)
        return buffer, identified

    def _check_clock(self) -> None:
        """Raise ``Unavailable`` while the clock's reading is not used.

        Another writer of the store may use it already, and report a horizon after the date here.
        For the same reason no peer confirms the clock of a writer of a shared store.
        """
        if self.clock.find_deviation() is not None:
            raise Unavailable(
                "this machine's clock has jumped ahead, and other nodes write to the same store. "
                "Send the webhook again."
            )

    def _follow_other_writers(self, buffer: Buffer) -> None:
        """Assign no timestamp before a horizon that another writer of the store has reported.

        A quarter of ``COMMIT_TIMEOUT_S`` may pass between two looks at the mark: the floor is at
        this node's clock after each, and a horizon lies ``COMMIT_TIMEOUT_S`` behind the clock.
        """
        with self._following:
            if self._must_follow():
                now = self.clock.monotonic()
                buffer.raise_floor(self.store.mark(HORIZON_MARK))
                self._followed_at = now

    def _must_follow(self) -> bool:
        interval_s = self.settings.commit_timeout_ms / 1000 / 4
        followed = self._followed_at
        return followed is None or self.clock.monotonic() - followed >= interval_s

    # -- the horizon and the status ------------------------------------------------------------

    def info(self) -> StoreInfo:
        self.open()
        return self.store.info()

    def now(self) -> Milliseconds:
        """Return the timestamp that a webhook would get now."""
        return self.open().now()

    def horizon(self) -> Milliseconds:
        """Return the time before which all records are committed and none will be added.

        It is durable when it is returned: it holds after a restart, even with a wrong clock. If it
        cannot be made durable (a full disk), the last durable one is returned.
        """
        horizon = self._current_horizon()
        try:
            self.store.raise_mark(HORIZON_MARK, horizon)
        except StoreError as error:
            logger.warning("the horizon stands still: %s", error)
            horizon = min(horizon, self._find_floor())
        return horizon

    def report_horizon(self) -> Stint:
        """Return the horizon for a master, with a stint that has reported it.

        The id is empty if the store cannot make the report durable. See :meth:`horizon`.
        """
        horizon = self.horizon()
        try:
            self._stints.note(horizon)
        except StoreError as error:
            logger.warning("the stint is not saved: %s", error)
        return Stint(self._stints.find(horizon), horizon)

    def knows(self, stint: Stint) -> bool:
        """Return whether the store is the one that has reported this horizon, or a later state."""
        self.open()
        return self._stints.knows(stint)

    def _current_horizon(self) -> Milliseconds:
        """Return the horizon as it is now; it need not hold after a restart."""
        buffer = self.open()
        doubt = buffer.doubt
        if doubt is not None:
            try:
                self.store.check()
            except StoreFull:  # no failed record will appear any more: a master may have the rest
                buffer.clear_doubt(doubt)
            except StoreError as error:
                logger.warning("the horizon stands still: %s", error)
            else:
                buffer.clear_doubt(doubt)
        horizon = buffer.commit_horizon()
        if self.store.shared:
            horizon = min(horizon, self.clock.now() - self.settings.commit_timeout_ms)
        return horizon

    def flush(self) -> None:
        """Commit all pending records, so that they can be read."""
        self.open().flush()

    def reserve(self, pairs: list[Pair]) -> None:
        """Never assign these pairs, which came from another node, to a webhook of this one."""
        self.open().reserve(pairs)

    def check(self) -> None:
        """Return if this node could store a webhook now; raise the reason if not."""
        self.open()
        self.store.check()

    def clock_status(self) -> ClockStatus:
        """Return what is wrong with the clock, or with the timestamps beside it."""
        return self._find_clock_status(self.open())

    def _find_clock_status(self, buffer: Buffer) -> ClockStatus:
        deviation = self.clock.find_deviation()
        ahead = max(0, buffer.now() - self.clock.now())
        if deviation is None:
            return ClockStatus(store_ahead_ms=ahead)
        return ClockStatus(deviation.ahead_ms, deviation.since, ahead)

    def clock_warnings(self) -> list[str]:
        """Return a sentence for each thing that is wrong with the clock or the timestamps."""
        return describe_clock(self.clock_status(), self.settings.span_ms)

    def status(self) -> NodeStatus:
        buffer = self.open()
        return NodeStatus(
            info=self.store.info(),
            store=self.store.status(),
            buffer=buffer.status(),
            horizon=self._current_horizon(),
            now=buffer.now(),
            clock=self._find_clock_status(buffer),
        )

    def drain(self) -> None:
        """Accept no more webhooks and commit those pending; records stay readable. Idempotent.

        Takes ``CLOSE_S`` at most, whatever the store does. Raises the error if a commit fails.
        """
        with self._opening:
            self._drained = True
            buffer = self._buffer
        for thread in (self._flusher, self._committer):
            if thread is not None:
                thread.stop()
        if buffer is not None:
            buffer.close(CLOSE_S)

    def close(self) -> None:
        """Accept no more webhooks, commit those pending, close the store. Idempotent."""
        try:
            self.drain()
        finally:
            self.store.close()
