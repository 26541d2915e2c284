"""The records that are not committed yet: those waiting, and the batch being committed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from portable_core.errors import BufferFull, StoreError, WebhookSyncError
from portable_core.ingest.outcome import Resolvable
from portable_core.ports import Milliseconds
from portable_core.records import Pair, Record

_NOT_DONE = StoreError("this webhook is not committed yet; send it again")


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """``oldest``: the timestamp of the oldest pending record, None if there is none.

    ``collapsed``: the repeats since the start that got the pair of an equal webhook.
    """

    records: int
    bytes: int
    oldest: Milliseconds | None
    collapsed: int = 0


@dataclass(slots=True, eq=False)
class PendingRecord:
    """One record that waits for its commit.

    - ``size``: the record's, in bytes.
    - ``since``: when it came, in seconds of the monotonic clock.
    - ``outcome``: of the caller that asked for one.
    - ``followers``: the outcomes of repeats, which get the same one.
    - ``wakeup``: locked from when a thread waits until it has something to do.
    - ``has_waiter``: a thread sleeps on ``wakeup``.
    - ``leads``: that thread commits the next batch.
    - ``done``: the outcome is known; ``error`` is None if the record is committed.
    """

    record: Record
    size: int
    since: float
    outcome: Resolvable[Pair] | None = None
    followers: list[Resolvable[Pair]] | None = None
    wakeup: threading.Lock = field(default_factory=threading.Lock)
    has_waiter: bool = False
    leads: bool = False
    done: bool = False
    error: WebhookSyncError | None = _NOT_DONE

    def resolve(self, error: WebhookSyncError | None) -> None:
        """Set the outcome and wake the waiting thread. Only the first outcome counts."""
        if self.done:
            return
        self.done, self.error = True, None
        if error is not None:
            self.error = _copy_error(error, error)
        if self.has_waiter:
            self.has_waiter = False
            self.wakeup.release()

    def pass_on(self, outcomes: Iterable[Resolvable[Pair]]) -> None:
        """Resolve outcomes as this record was resolved, without the buffer's lock."""
        for outcome in outcomes:
            if self.error is None:
                outcome.set_result(self.record.pair)
            else:
                outcome.set_exception(_copy_error(self.error, self.error.__cause__))


def _copy_error(error: WebhookSyncError, cause: BaseException | None) -> WebhookSyncError:
    """Return a copy: an error raised in many threads collects the tracebacks of all."""
    copied = copy.copy(error)
    copied.__cause__ = cause
    return copied


class PendingBatch:
    """All pending records. For one thread at a time: the buffer holds its lock.

    They are at most ``most_records``, of ``most_bytes`` together; a single one may have any size.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._bytes = 0
        self.waiting: list[PendingRecord] = []
        self.batch: list[PendingRecord] = []

    def __len__(self) -> int:
        return len(self.waiting) + len(self.batch)

    def __iter__(self) -> Iterator[PendingRecord]:
        yield from self.batch
        yield from self.waiting

    def check_room(self, size: int) -> None:
        """Raise :class:`BufferFull` if there is no room for a record of so many bytes."""
        count = len(self)
        if count and (count >= self._most_records or self._bytes + size > self._most_bytes):
            raise BufferFull(
                f"{count} webhooks ({self._bytes} bytes) wait for the store; send it again"
            )

    def add(self, pending: PendingRecord) -> None:
        self.waiting.append(pending)
        self._bytes += pending.size

    def withdraw(self, pending: PendingRecord) -> None:
        """Remove a record, unless it is being committed."""
        if pending in self.waiting:
            self.waiting.remove(pending)
            self._bytes -= pending.size

    def begin_batch(self) -> list[PendingRecord]:
        """Make everything that waits the batch, and return it."""
        self.batch, self.waiting = self.waiting, []
        return self.batch

    def end_batch(self, *, keep: bool) -> list[PendingRecord]:
        """End the batch and return it; with ``keep`` its records wait for the next one."""
        batch, self.batch = self.batch, []
        if keep:
            self.waiting = batch + self.waiting
        else:
            self._bytes -= sum(pending.size for pending in batch)
        return batch

    @property
    def oldest(self) -> Milliseconds | None:
        """The timestamp of the oldest record, None if there is none."""
        first = self.batch or self.waiting
        return first[0].record.pair.timestamp if first else None

    @property
    def half_full(self) -> bool:
        """Whether half of the allowed records or bytes are pending."""
        return 2 * len(self) >= self._most_records or 2 * self._bytes >= self._most_bytes

    def status(self) -> BufferStatus:
        return BufferStatus(len(self), self._bytes, self.oldest)
