"""Group commit: many webhooks wait together, and one of their threads commits all of them.

The buffer has no thread of its own. A request adds its record and waits (:meth:`Buffer.commit`).
The first thread that finds no commit running leads: it lingers a moment for more records, commits
all that wait, and wakes the other threads. A record that came in meanwhile has the next leader. A
caller that does not wait gives an outcome to be resolved (:meth:`Buffer.submit_to`), and arranges
that a thread calls :meth:`Buffer.flush`.

A record gets its timestamp when it is added. The buffer also knows the horizon: every record before
it is committed, and none will be added before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from portable_core.errors import BatchTooLate, Stopping, StoreError, WebhookSyncError
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.ingest.outcome import Outcome, Resolvable
from portable_core.ingest.pending import BufferStatus, PendingBatch, PendingRecord
from portable_core.ingest.repeats import Repeats
from portable_core.ingest.timestamps import Timestamps
from portable_core.ports import Clock, Milliseconds
from portable_core.records import Meta, Pair, Record

_TOO_LATE = "the store did not commit in time; send the webhook again"

#: Appends the records durably within so many seconds, or raises.
Append = Callable[[Sequence[Record], float], None]


class Buffer:
    """Commits records in groups. Safe to use from any number of threads."""

    def __init__(
        self,
        append: Append,
        clock: Clock,
        limits: BufferLimits,
        floor: Milliseconds,
        *,
        keep_failed: bool = False,
    ) -> None:
        """``floor`` is the first timestamp that may be assigned.

        With ``keep_failed`` a record whose commit failed waits for the next one instead of failing:
        its sender has got its 200 already.
        """
        self._append = append
        self._clock = clock
        self._limits = limits
        self._keep_failed = keep_failed
        self._lock = threading.Lock()
        self._timestamps = Timestamps(clock, floor, limits.lead_ms)
        self._repeats = Repeats(self._timestamps, limits)
        self._pending = PendingBatch(limits.records, limits.bytes)
        self._committing = False
        self._idle = threading.Condition(self._lock)
        self._in_doubt: Milliseconds | None = None
        self._failures = 0
        self._closed = False
        self._deadline = float("inf")  # of everything, once the buffer is closed

    # -- adding records ------------------------------------------------------------------------

    def submit(self, hash_: int, payload: bytes, meta: Meta) -> Outcome[Pair]:
        """Add a record and return the outcome of its commit.

        The outcome has the record's pair once it is committed, or the error of its batch. Raises
        ``BufferFull`` and ``Stopping``.
        """
        outcome: Outcome[Pair] = Outcome()
        self.submit_to(outcome, hash_, payload, meta)
        return outcome

    def submit_to(self, outcome: Resolvable[Pair], hash_: int, payload: bytes, meta: Meta) -> None:
        """Add a record whose commit resolves ``outcome``, as :meth:`submit` does."""
        with self._lock:
            pending, is_repeat = self._admit(hash_, payload, meta)
            committed = is_repeat and pending.done
            if is_repeat and not committed:
                self._repeats.collapse(pending, outcome)
            elif not is_repeat:
                pending.outcome = outcome
        if committed:
            outcome.set_result(pending.record.pair)

    def add(self, hash_: int, payload: bytes, meta: Meta) -> Pair:
        """Add a record without waiting for its commit, and return the pair it will have."""
        with self._lock:
            return self._admit(hash_, payload, meta)[0].record.pair

    def commit(self, hash_: int, payload: bytes, meta: Meta) -> Pair:
        """Add a record, wait for its commit and return its pair.

        Raises the error of its batch, and ``BatchTooLate`` after ``commit_timeout_s``.
        """
        follower: Future[Pair] | None = None
        with self._lock:
            pending, is_repeat = self._admit(hash_, payload, meta)
            if is_repeat and not pending.done:
                follower = Future()
                self._repeats.collapse(pending, follower)
        if follower is not None:
            try:
                return follower.result(self._limits.commit_timeout_s + 1)
            except TimeoutError:
                raise BatchTooLate(_TOO_LATE) from None
        if not is_repeat:
            self._wait(pending)
        if pending.error is not None:
            raise pending.error
        return pending.record.pair

    def _admit(self, hash_: int, payload: bytes, meta: Meta) -> tuple[PendingRecord, bool]:
        """Return a new pending record, or the one whose outcome a repeat gets, and True for that.

        The caller holds the lock.
        """
        if self._closed:
            raise Stopping("this node is being stopped; send the webhook again")
        repeat = self._repeats.find(meta.key) if self._repeats else None
        if repeat is not None:
            self._repeats.collapsed += 1
            return repeat, True
        size = len(payload) + meta.size
        self._pending.check_room(size)
        # Read before the timestamp is assigned: if this thread is delayed in between, the
        # commit has less time, never more.
        since = self._clock.monotonic()
        pending = PendingRecord(Record(self._timestamps.next(hash_), payload, meta), size, since)
        self._pending.add(pending)
        if self._timestamps.moved:
            self._repeats.note(pending)
        return pending, False

    def reserve(self, pairs: Sequence[Pair]) -> None:
        """Never assign these pairs, which the store holds already, to a record."""
        with self._lock:
            self._timestamps.reserve(pairs)

    # -- committing ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Commit everything that was added before the call.

        Raises the error of a batch that failed, which the outcomes of its records have as well, and
        ``BatchTooLate`` if the store does not respond.
        """
        with self._idle:
            added = list(self._pending)
            while any(not pending.done for pending in added):
                if self._committing:
                    if not self._idle.wait(self._bound(self._limits.commit_timeout_s)):
                        raise BatchTooLate("the store does not respond")
                    continue
                self._committing = True
                self._idle.release()
                try:
                    error = self._lead()
                finally:
                    self._idle.acquire()
                if error is not None:
                    raise error

    def _wait(self, pending: PendingRecord) -> None:
        """Return once the record has an outcome; lead the commit if no other thread does."""
        with self._lock:
            if pending.done:
                return  # a leader committed it before this thread began to wait
            pending.leads = not self._committing
            if pending.leads:
                self._committing = True
            else:
                pending.has_waiter = True
                pending.wakeup.acquire()
        timeout = self._limits.commit_timeout_s + 1
        followers: list[Resolvable[Pair]] = []
        if not pending.leads and not pending.wakeup.acquire(timeout=timeout):
            with self._lock:
                if not pending.leads and not pending.done:
                    self._pending.withdraw(pending)
                    pending.has_waiter = False
                    pending.resolve(BatchTooLate(_TOO_LATE))
                    followers = self._repeats.detach(pending)
            pending.pass_on(followers)
        if pending.leads:
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
        """Wait for more records: until the first one has waited ``linger_s``, or none has come for
        a quarter of it.

        Senders that wait for their responses come in bursts; when the burst is in, waiting longer
        only delays it.
        """
        count = 0
        while True:
            with self._lock:
                waiting = self._pending.waiting
                before, count = count, len(waiting)
                if count == before or self._closed or self._keep_failed:
                    return
                rest = waiting[0].since + self._limits.linger_s - self._clock.monotonic()
            if rest <= 0:
                return
            self._clock.sleep(min(rest, self._limits.linger_s / 4))

    def _commit(self, batch: Sequence[PendingRecord]) -> WebhookSyncError | None:
        """Append a batch to the store. Return what went wrong, None if nothing did."""
        if not batch:
            return None
        started = self._clock.monotonic()
        since = started if self._keep_failed else batch[0].since
        rest = self._bound(self._limits.commit_timeout_s - (started - since))
        if rest <= 0:
            return BatchTooLate("the store is too slow to commit in time; send the webhook again")
        try:
            self._append([pending.record for pending in batch], rest)
        except WebhookSyncError as error:
            return error
        if self._clock.monotonic() - since > self._limits.commit_timeout_s:
            return BatchTooLate("the store committed too late; send the webhook again")
        return None

    def _bound(self, seconds: float) -> float:
        """Return so many seconds, but not beyond the deadline of a closed buffer."""
        return min(seconds, self._deadline - self._clock.monotonic())

    def _resolve_batch(self, error: WebhookSyncError | None) -> None:
        """Give the records of the batch their outcome and wake the next leader."""
        keep = error is not None and self._keep_failed
        repeated: list[tuple[PendingRecord, list[Resolvable[Pair]]]] = []
        with self._lock:
            batch = self._pending.end_batch(keep=keep)
            if batch:
                self._note_outcome(batch, error)
            if not keep:
                for pending in batch:
                    pending.resolve(error)
                    if pending.followers is not None:
                        repeated.append((pending, self._repeats.detach(pending)))
            leader = next((p for p in self._pending.waiting if p.has_waiter), None)
            self._committing = leader is not None
            if leader is not None:
                leader.leads = True
                leader.has_waiter = False
                leader.wakeup.release()
            self._idle.notify_all()
        # Without the lock: the callbacks of an outcome may use the buffer.
        if keep:
            return
        for pending in batch:
            if pending.outcome is not None:
                pending.pass_on((pending.outcome,))
                pending.outcome = None
        for pending, followers in repeated:
            pending.pass_on(followers)

    def _note_outcome(self, batch: Sequence[PendingRecord], error: WebhookSyncError | None) -> None:
        if error is None:
            self._in_doubt = None
            return
        self._failures += 1
        if self._in_doubt is None:
            self._in_doubt = batch[0].record.pair.timestamp

    # -- the horizon and the status ------------------------------------------------------------

    def now(self) -> Milliseconds:
        """Return the timestamp that a record would get at this moment."""
        with self._lock:
            return max(self._timestamps.floor, self._clock.now())

    def commit_horizon(self) -> Milliseconds:
        """Return a time before which every record of this buffer is committed.

        No record gets a timestamp before it from now on. It stands still while the outcome of a
        failed batch is in doubt (see :meth:`clear_doubt`).
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
        """The number of the failed batch that is in doubt, for :meth:`clear_doubt`, or None."""
        with self._lock:
            return None if self._in_doubt is None else self._failures

    def clear_doubt(self, doubt: int) -> None:
        """Accept the proof of the store that no record of a failed batch can still appear.

        ``doubt`` is the value of :attr:`doubt` before the proof; a batch that failed later stays in
        doubt.
        """
        with self._lock:
            if doubt == self._failures:
                self._in_doubt = None

    def raise_floor(self, floor: Milliseconds) -> None:
        """Assign no timestamp before ``floor``, nor before the clock as it is now."""
        with self._lock:
            self._timestamps.raise_floor(max(floor, self._clock.now()))

    def status(self) -> BufferStatus:
        with self._lock:
            return replace(self._pending.status(), collapsed=self._repeats.collapsed)

    @property
    def half_full(self) -> bool:
        """Whether half of the allowed records or bytes are pending."""
        return self._pending.half_full

    def close(self, within_s: float) -> None:
        """Accept no more records and commit those pending, within so many seconds. Idempotent.

        Raises the error if that fails: with ``keep_failed``, the number of lost records.
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
