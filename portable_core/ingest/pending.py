"""The webhooks that wait for their commit: those that came in, and the batch being committed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from portable_core.errors import BufferFull, StoreError, WebhookSyncError
from portable_core.ports import Milliseconds
from portable_core.records import Pair, Record

_OPEN = StoreError("this webhook is not committed yet; send it again")


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """``oldest`` is the timestamp of the oldest record that is not committed, None without one."""

    records: int
    bytes: int
    oldest: Milliseconds | None


@dataclass(slots=True, eq=False)
class PendingRecord:
    """One waiting record. ``wake`` is a lock held until its waiter has something to do.

    ``size`` is the record's; ``since`` is when it came, in seconds of the monotonic clock;
    ``waited_for``: a thread sleeps on ``wake``; ``leads``: that thread is to commit. A ``future``
    costs as much as all the rest: only who asks for one gets it.
    """

    record: Record
    size: int
    since: float
    future: Future[Pair] | None
    wake: threading.Lock = field(default_factory=threading.Lock)
    waited_for: bool = False
    leads: bool = False
    done: bool = False
    error: WebhookSyncError | None = _OPEN

    def resolve(self, error: WebhookSyncError | None) -> None:
        """Let its waiter see the outcome. The first one counts: who gave up has one already."""
        if self.done:
            return
        self.done, self.error = True, None
        if error is not None:
            # A copy for each: what is raised in many threads grows a traceback of them all.
            self.error = copy.copy(error)
            self.error.__cause__ = error
        if self.waited_for:
            self.waited_for = False
            self.wake.release()

    def tell(self) -> None:
        """Resolve the future of an entry that is done."""
        if self.future is None:
            return
        if self.error is None:
            self.future.set_result(self.record.pair)
        else:
            self.future.set_exception(self.error)


class PendingBatch:
    """For one thread at a time: its owner has the lock.

    Holds at most ``most_records``, of ``most_bytes`` in all, but one record of any size.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._bytes = 0
        self.entries: list[PendingRecord] = []
        self.batch: list[PendingRecord] = []

    def __len__(self) -> int:
        return len(self.entries) + len(self.batch)

    def __iter__(self) -> Iterator[PendingRecord]:
        yield from self.batch
        yield from self.entries

    def check_room(self, size: int) -> None:
        """Raise :class:`BufferFull` where a record of so many bytes has to stay out."""
        count = len(self)
        if count and (count >= self._most_records or self._bytes + size > self._most_bytes):
            raise BufferFull(
                f"{count} webhooks ({self._bytes} bytes) wait for the store; send it again"
            )

    def add(self, entry: PendingRecord) -> None:
        self.entries.append(entry)
        self._bytes += entry.size

    def withdraw(self, entry: PendingRecord) -> None:
        """Take an entry out, unless it is being committed."""
        if entry in self.entries:
            self.entries.remove(entry)
            self._bytes -= entry.size

    def begin_batch(self) -> list[PendingRecord]:
        """What came in is the batch from now on."""
        self.batch, self.entries = self.entries, []
        return self.batch

    def end_batch(self, *, keep: bool) -> list[PendingRecord]:
        """The batch is over; with ``keep`` its records wait for the next one."""
        batch, self.batch = self.batch, []
        if keep:
            self.entries = batch + self.entries
        else:
            self._bytes -= sum(entry.size for entry in batch)
        return batch

    @property
    def oldest(self) -> Milliseconds | None:
        first = self.batch or self.entries
        return first[0].record.pair.timestamp if first else None

    @property
    def half_full(self) -> bool:
        """Whether half of what may wait does."""
        return 2 * len(self) >= self._most_records or 2 * self._bytes >= self._most_bytes

    def status(self) -> BufferStatus:
        return BufferStatus(len(self), self._bytes, self.oldest)
