"""Group commit: many webhooks wait together, one of their threads commits for all.

There is no thread of its own. A request puts its record in (:meth:`Buffer.submit`) and waits
(:meth:`Buffer.wait`); the first one that finds nobody committing becomes the leader, lingers a
moment for company, commits everything that is waiting and wakes the others; one of those that came
in meanwhile leads next. Whoever does not want to wait keeps the ``Future`` and sees to it that some
thread calls :meth:`Buffer.flush`.

A record is stamped when the buffer takes it. The buffer also knows the horizon: the moment before
which everything is committed and nothing will be added.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from portable_core.errors import BatchTooLate, Stopping, StoreError, WebhookSyncError
from portable_core.ingest.pending import BufferStatus, PendingBatch, PendingRecord
from portable_core.ingest.timestamps import Timestamps
from portable_core.ports import Clock, Milliseconds
from portable_core.records import Meta, Pair, Record

#: Appends the records durably within so many seconds, or raises.
Append = Callable[[Sequence[Record], float], None]


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """Limits of a buffer.

    - ``commit_timeout_s``: the longest time from a record's timestamp to its commit.
    - ``linger_s``: the longest time that the first record of a batch waits for more.
    - ``records`` and ``bytes``: how much may wait.
    """

    commit_timeout_s: float
    linger_s: float
    records: int
    bytes: int


class Buffer:
    """See the module's text. Safe to use from any number of threads."""

    def __init__(
        self,
        append: Append,
        clock: Clock,
        limits: BufferLimits,
        floor: Milliseconds,
        *,
        keep_failed: bool = False,
    ) -> None:
        """``floor`` is the first timestamp that may be given.

        With ``keep_failed`` a record whose commit failed waits for the next one (for senders that
        have been told 200 already) instead of failing its future.
        """
        self._append = append
        self._clock = clock
        self._limits = limits
        self._keep_failed = keep_failed
        self._lock = threading.Lock()
        self._timestamps = Timestamps(clock, floor)
        self._pending = PendingBatch(limits.records, limits.bytes)
        self._committing = False
        self._idle = threading.Condition(self._lock)
        self._in_doubt: Milliseconds | None = None
        self._failures = 0
        self._closed = False
        self._deadline = float("inf")  # of everything, once it is closed

    # -- taking records ------------------------------------------------------------------------

    def submit(self, hash_: int, payload: bytes, meta: Meta) -> Future[Pair]:
        """Stamp a record and let it wait for the next commit.

        The future holds its pair once it is committed, or the error of its batch. It cannot be
        cancelled: whoever stops waiting for it does not take the record back. Raises
        :class:`~portable_core.errors.BufferFull` and :class:`Stopping`.
        """
        future: Future[Pair] = Future()
        future.set_running_or_notify_cancel()
        self._submit(hash_, payload, meta, future)
        return future

    def add(self, hash_: int, payload: bytes, meta: Meta) -> Pair:
        """Submit a record without waiting for its commit; returns the pair it will have."""
        return self._submit(hash_, payload, meta).record.pair

    def commit(self, hash_: int, payload: bytes, meta: Meta) -> Pair:
        """Submit a record and return its pair once it is committed.

        Raises the error of its batch, and :class:`BatchTooLate` after
        ``commit_timeout_s`` at the latest.
        """
        entry = self._submit(hash_, payload, meta)
        self._wait(entry)
        if entry.error is not None:
            raise entry.error
        return entry.record.pair

    def _submit(
        self, hash_: int, payload: bytes, meta: Meta, future: Future[Pair] | None = None
    ) -> PendingRecord:
        size = len(payload) + meta.size
        with self._lock:
            if self._closed:
                raise Stopping("this node is being stopped; send the webhook again")
            self._pending.check_room(size)
            # Read before the stamp is given: if this thread is held up in between, the commit has
            # less time, never more.
            since = self._clock.monotonic()
            entry = PendingRecord(
                Record(self._timestamps.next(hash_), payload, meta), size, since, future
            )
            entry.wake.acquire()
            self._pending.add(entry)
            return entry

    def reserve(self, pairs: Sequence[Pair]) -> None:
        """Never give these pairs, which the store holds already, to a record."""
        with self._lock:
            self._timestamps.reserve(pairs)

    # -- committing ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Commit everything that was submitted before the call.

        Raises the error of a batch that failed (the futures of its records have it as well), and
        :class:`BatchTooLate` where the store does not answer.
        """
        with self._idle:
            entries = list(self._pending)
            while any(not entry.done for entry in entries):
                if self._committing:
                    if not self._idle.wait(self._bound(self._limits.commit_timeout_s)):
                        raise BatchTooLate("the store does not answer")
                    continue
                self._committing = True
                self._idle.release()
                try:
                    error = self._lead()
                finally:
                    self._idle.acquire()
                if error is not None:
                    raise error

    def _wait(self, entry: PendingRecord) -> None:
        with self._lock:
            if entry.done:
                return  # a leader took it along before this thread came to wait for it
            entry.leads = not self._committing
            if entry.leads:
                self._committing = True
            else:
                entry.waited_for = True
        if not entry.leads and not entry.wake.acquire(timeout=self._limits.commit_timeout_s + 1):
            with self._lock:
                if not entry.leads and not entry.done:
                    self._pending.withdraw(entry)
                    entry.waited_for = False
                    entry.resolve(
                        BatchTooLate("the store did not commit in time; send the webhook again")
                    )
        if entry.leads:
            self._lead()

    def _lead(self) -> WebhookSyncError | None:
        """Commit one batch and pass the lead on. The caller has set ``_committing``."""
        error: WebhookSyncError | None = StoreError("the commit was interrupted; send it again")
        try:
            self._linger()
            with self._lock:
                batch = self._pending.begin_batch()
            error = self._commit(batch)
        finally:
            self._resolve_batch(error)
        return error

    def _linger(self) -> None:
        """Wait for company: until the first record has waited ``linger_s``, or nobody has come for
        a quarter of it. (Senders that wait for their answers come in bursts; when the burst is in,
        waiting longer only keeps them.)"""
        present = 0
        while True:
            with self._lock:
                entries = self._pending.entries
                count = len(entries)
                if count == present or self._closed or self._keep_failed:
                    return
                rest = entries[0].since + self._limits.linger_s - self._clock.monotonic()
            if rest <= 0:
                return
            present = count
            self._clock.sleep(min(rest, self._limits.linger_s / 4))

    def _commit(self, batch: Sequence[PendingRecord]) -> WebhookSyncError | None:
        if not batch:
            return None
        started = self._clock.monotonic()
        since = started if self._keep_failed else batch[0].since
        rest = self._bound(self._limits.commit_timeout_s - (started - since))
        if rest <= 0:
            return BatchTooLate("the store is too slow to commit in time; send the webhook again")
        try:
            self._append([entry.record for entry in batch], rest)
        except WebhookSyncError as error:
            return error
        if self._clock.monotonic() - since > self._limits.commit_timeout_s:
            return BatchTooLate("the store committed too late; send the webhook again")
        return None

    def _bound(self, seconds: float) -> float:
        """So many seconds, but not beyond the deadline of a closed buffer."""
        return min(seconds, self._deadline - self._clock.monotonic())

    def _resolve_batch(self, error: WebhookSyncError | None) -> None:
        told: list[PendingRecord] = []
        keep = error is not None and self._keep_failed
        with self._lock:
            batch = self._pending.end_batch(keep=keep)
            if batch:
                self._note_outcome(batch, error)
            if not keep:
                for entry in batch:
                    entry.resolve(error)
                told = [entry for entry in batch if entry.future is not None]
            leader = next((entry for entry in self._pending.entries if entry.waited_for), None)
            self._committing = leader is not None
            if leader is not None:
                leader.leads = True
                leader.waited_for = False
                leader.wake.release()
            self._idle.notify_all()
        for entry in told:  # their callbacks may do anything, and so find the buffer at peace
            entry.tell()

    def _note_outcome(self, batch: Sequence[PendingRecord], error: WebhookSyncError | None) -> None:
        if error is None:
            self._in_doubt = None
            return
        self._failures += 1
        if self._in_doubt is None:
            self._in_doubt = batch[0].record.pair.timestamp

    # -- what the node tells -------------------------------------------------------------------

    def now(self) -> Milliseconds:
        """The timestamp that a record would be given at this moment."""
        with self._lock:
            return max(self._timestamps.floor, self._clock.now())

    def horizon(self) -> Milliseconds:
        """Every record before it is committed, and none will be stamped before it from now on.

        It stands still while the outcome of a failed batch is in doubt (see :meth:`clear_doubt`).
        """
        with self._lock:
            oldest = self._pending.oldest
            if self._in_doubt is not None:
                oldest = self._in_doubt if oldest is None else min(oldest, self._in_doubt)
            if oldest is not None:
                return oldest
            self._timestamps.raise_floor(self._clock.now())
            return self._timestamps.floor

    @property
    def doubt(self) -> int | None:
        """Which failed batch is in doubt, for :meth:`clear_doubt`; None where nothing is."""
        with self._lock:
            return None if self._in_doubt is None else self._failures

    def clear_doubt(self, doubt: int) -> None:
        """To be called when the store proved that nothing of a failed batch can still appear.

        ``doubt`` is what :attr:`doubt` was before the proof; a batch that failed later stays.
        """
        with self._lock:
            if doubt == self._failures:
                self._in_doubt = None

    def raise_floor(self, floor: Milliseconds) -> None:
        """Give no timestamp before ``floor``, nor before the clock as it is now."""
        with self._lock:
            self._timestamps.raise_floor(max(floor, self._clock.now()))

    def status(self) -> BufferStatus:
        with self._lock:
            return self._pending.status()

    @property
    def half_full(self) -> bool:
        """Whether half of what may wait does."""
        return self._pending.half_full

    def close(self, within_s: float) -> None:
        """Take nothing more and commit what waits, within so many seconds. Idempotent.

        Raises the error if that fails; with ``keep_failed`` it tells how many records are lost.
        """
        with self._lock:
            if not self._closed:
                self._closed, self._deadline = True, self._clock.monotonic() + within_s
        try:
            self.flush()
        except WebhookSyncError as error:
            if not self._keep_failed:
                raise
            lost = self.status().records
            raise StoreError(
                f"{lost} webhooks that were acknowledged are not stored ({error}); "
                "ACK=committed would not have acknowledged them"
            ) from error
