"""The receiving side of a node, the same for both roles: hash, stamp, commit, acknowledge.

A receiver opens its store when it is first needed, so that it can be made before a server forks,
and tries as often as it takes while another process still holds the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from portable_core.errors import (
    PayloadTooLarge,
    Stopping,
    StoreError,
    StoreFull,
    StoreLocked,
    WebhookSyncError,
)
from portable_core.ingest.buffer import Buffer, BufferLimits
from portable_core.ingest.identifier import Identified, Identifier
from portable_core.ingest.pending import BufferStatus
from portable_core.payload_hash.algorithms import check_algorithm
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Clock, Milliseconds, Store, StoreInfo, StoreStatus
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings

logger = logging.getLogger(__name__)

#: The mark under which the horizon that was told last is kept: nothing may be stamped before it,
#: also after a restart with a clock that was set back.
HORIZON_MARK = "horizon"

#: The longest that committing what waits may take when a node is closed, in seconds: what is left
#: of a platform's patience after the server has drained (``adapters.server.stopping``).
CLOSE_S = 2.5

_OPENING_WAIT_S = 2.0
_FLUSH_SOON_S = 0.2


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node tells people about itself."""

    info: StoreInfo
    store: StoreStatus
    buffer: BufferStatus
    horizon: Milliseconds
    now: Milliseconds


def name_algorithm(settings: Settings) -> str:
    """The algorithm's name as stores and nodes compare it.

    A keyed algorithm carries a fingerprint of its key, so that two nodes with different keys, whose
    hashes have nothing to do with each other, refuse to sync.
    """
    if not settings.hash_key or not check_algorithm(settings.hash).keyed:
        return settings.hash
    fingerprint = hash_payload(b'{"webhook-sync":"key"}', settings.hash, settings.hash_key)
    return f"{settings.hash}-{fingerprint:x}"


class CommitObserver(Protocol):
    """What a receiver reports to; :class:`portable_core.sync.observer.Observer` is one."""

    def observe_commit(self, records: int, seconds: float, done: bool) -> None:
        """A commit of so many records has ended; ``done`` is whether it succeeded."""
        ...


class Receiver:
    """Takes webhooks into a store. Safe to use from any number of threads."""

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
        self.clock = clock
        self.algorithm = name_algorithm(settings)
        self.identifier = Identifier(settings.hash, settings.hash_key, {})
        self._observer = observer
        self._opening = threading.Lock()
        self._keeping_up = threading.Lock()
        self._kept_up: float | None = None
        self._buffer: Buffer | None = None
        self._finished = False
        self._flusher: _Flusher | None = None

    # -- opening -------------------------------------------------------------------------------

    def open(self) -> Buffer:
        """The buffer before the open store. Raises ``StoreLocked`` while another process writes."""
        buffer = self._buffer
        if buffer is not None:
            return buffer
        if not self._opening.acquire(timeout=_OPENING_WAIT_S):
            raise StoreLocked("the store is still being opened; try again")
        try:
            if self._buffer is None:
                if self._finished:
                    raise Stopping("this node is being stopped; send the webhook again")
                self._buffer = self._open()
            return self._buffer
        finally:
            self._opening.release()

    def _open(self) -> Buffer:
        settings, store = self.settings, self.store
        store.open(self.algorithm)
        limits = BufferLimits(
            commit_timeout_s=settings.commit_timeout_ms / 1000,
            linger_s=settings.linger_ms / 1000,
            records=settings.buffer_records,
            bytes=settings.buffer_bytes,
        )
        buffered = settings.ack == "buffered"
        floor = self._find_floor()
        buffer = Buffer(self._append, self.clock, limits, floor, keep_failed=buffered)
        if buffered:
            self._flusher = _Flusher(buffer, settings.flush_interval_ms / 1000)
        return buffer

    def _find_floor(self) -> Milliseconds:
        """The first timestamp that may be given after a restart, whatever the clock says then."""
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
        finally:
            if self._observer is not None:
                seconds = self.clock.monotonic() - started
                self._observer.observe_commit(len(records), seconds, done)

    # -- receiving -----------------------------------------------------------------------------

    def receive(self, payload: bytes, meta: Meta) -> Pair:
        """Keep one webhook and return its pair; from then on it is acknowledged.

        The payload is complete when this is called: the stamp is taken here. Raises
        ``MalformedPayload``, ``PayloadTooLarge``, and ``Unavailable`` where it was not kept.
        """
        buffer, (hash_, meta) = self._prepare(payload, meta)
        if self._flusher is None:
            return buffer.commit(hash_, payload, meta)
        pair = buffer.add(hash_, payload, meta)
        self._flusher.wake()
        return pair

    def flush_soon(self) -> None:
        """The node is being stopped: let nothing that was acknowledged wait for its interval."""
        if self._flusher is not None:
            self._flusher.flush_soon()

    def submit(self, payload: bytes, meta: Meta) -> Future[Pair]:
        """Stamp a webhook, to be committed by the next :meth:`flush`; see :meth:`Buffer.submit`.

        Raises what :meth:`receive` raises before the commit.
        """
        buffer, (hash_, meta) = self._prepare(payload, meta)
        return buffer.submit(hash_, payload, meta)

    def _prepare(self, payload: bytes, meta: Meta) -> tuple[Buffer, Identified]:
        if len(payload) > self.settings.max_body_bytes:
            raise PayloadTooLarge(f"the body is larger than {self.settings.max_body_bytes} bytes")
        identified = self.identifier.identify(payload, meta)
        buffer = self.open()
        if self.store.shared:
            self._keep_up(buffer)
        return buffer, identified

    def _keep_up(self, buffer: Buffer) -> None:
        """Let no stamp lie before a horizon that another writer of the store has told.

        A horizon lies ``COMMIT_TIMEOUT_S`` behind the clock, and the floor is at the clock after
        this: so it holds for a while whatever happens to this node's clock, and is cheap.
        """
        with self._keeping_up:
            now = self.clock.monotonic()
            if (
                self._kept_up is None
                or now - self._kept_up >= self.settings.commit_timeout_ms / 4000
            ):
                buffer.raise_floor(self.store.mark(HORIZON_MARK))
                self._kept_up = now

    # -- what the node tells ---------------------------------------------------------------------

    def info(self) -> StoreInfo:
        self.open()
        return self.store.info()

    def now(self) -> Milliseconds:
        """The timestamp that a webhook would get now: the clock, unless it was set back."""
        return self.open().now()

    def horizon(self) -> Milliseconds:
        """Every record before it is committed and readable, and none will be added before it.

        Durable when it returns: a restart, even with a wrong clock, keeps the promise. Where it
        cannot be made so (a full disk), it is what is durable already.
        """
        horizon = self._find_horizon()
        try:
            self.store.raise_mark(HORIZON_MARK, horizon)
        except StoreError as error:
            logger.warning("the horizon stands still: %s", error)
            horizon = min(horizon, self._find_floor())
        return horizon

    def _find_horizon(self) -> Milliseconds:
        """The horizon as it is now; a restart may not keep it."""
        buffer = self.open()
        doubt = buffer.doubt
        if doubt is not None:
            try:
                self.store.check()
            except StoreFull:  # what failed will not appear any more: a master may have the rest
                buffer.clear_doubt(doubt)
            except StoreError as error:
                logger.warning("the horizon stands still: %s", error)
            else:
                buffer.clear_doubt(doubt)
        horizon = buffer.horizon()
        if self.store.shared:
            horizon = min(horizon, self.clock.now() - self.settings.commit_timeout_ms)
        return horizon

    def flush(self) -> None:
        """Commit what waits now, so that it can be read."""
        self.open().flush()

    def reserve(self, pairs: list[Pair]) -> None:
        """Never give these pairs, which came from another node, to a webhook of this one."""
        self.open().reserve(pairs)

    def check(self) -> None:
        """Return if this node could take a webhook now, raise the reason if not."""
        self.open()
        self.store.check()

    def status(self) -> NodeStatus:
        buffer = self.open()
        return NodeStatus(
            info=self.store.info(),
            store=self.store.status(),
            buffer=buffer.status(),
            horizon=self._find_horizon(),
            now=buffer.now(),
        )

    def drain(self) -> None:
        """Take nothing more and commit what waits; all can still be read. Idempotent.

        It takes ``CLOSE_S`` at most, whatever the store does. Raises the error if that fails.
        """
        with self._opening:
            self._finished = True
            buffer = self._buffer
        if self._flusher is not None:
            self._flusher.stop()
        if buffer is not None:
            buffer.close(CLOSE_S)

    def close(self) -> None:
        """Take nothing more, commit what waits, close the store. Idempotent."""
        try:
            self.drain()
        finally:
            self.store.close()


class _Flusher:
    """Commits what waits every ``interval_s``, or sooner where much waits; its thread starts with
    the first webhook."""

    def __init__(self, buffer: Buffer, interval_s: float) -> None:
        self._buffer = buffer
        self._interval_s = interval_s
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """To be called after every webhook."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped.is_set():
                    self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
                    self._thread.start()
        if self._buffer.half_full:
            self._due.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(self._interval_s)
            self._due.clear()
            try:
                self._buffer.flush()
            except WebhookSyncError as error:
                logger.error("acknowledged webhooks still wait for the store: %s", error)
                self._stopped.wait(self._interval_s)

    def flush_soon(self) -> None:
        self._interval_s = min(self._interval_s, _FLUSH_SOON_S)
        self._due.set()

    def stop(self) -> None:
        """Let the thread end; closing the buffer does what it has left."""
        self._stopped.set()
        self._due.set()
