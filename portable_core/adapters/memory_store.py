"""``memory:``, a store that exists as long as its process: for tests, simulations and trials.

The object itself is the database: it keeps everything when it is closed and opened again.
"""

from __future__ import annotations

import re
import threading
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from portable_core.errors import BadRequest, LeaseHeld, LeaseLost, SettingsError, StoreError
from portable_core.listeners import Listeners
from portable_core.ports import (
    BEGINNING,
    GAP_REASON,
    Arrival,
    ConsumerState,
    Damage,
    Lease,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
    SlaveState,
    StoreInfo,
    StoreStatus,
)
from portable_core.records import Pair, Record

#: A position in the order of arrival: the number of a record in hexadecimal.
_POSITION = re.compile(r"[1-9a-f][0-9a-f]{0,12}")

#: Pairs that an iterator reads while it holds the lock.
_BATCH = 1024

#: Approximate bytes of a record's objects, beside its payload and metadata.
_OVERHEAD = 200


class MemoryStore:
    """Store and master's state in dictionaries under one lock. Safe to use from any thread."""

    shared = False

    def __init__(self, uuid_: str | None = None) -> None:
        self._lock = threading.RLock()
        self._uuid = uuid_ or str(uuid.uuid4())
        self._algorithm: str | None = None
        self._generation = 1
        self._opened = False
        self._order: list[Pair] = []
        self._records: dict[Pair, Record] = {}
        #: The number of each record in the order of appending; an iterator skips later ones.
        self._arrival: dict[Pair, int] = {}
        self._arrivals = 0
        #: Numbers and pairs in the order of appending, also of some records that were removed.
        self._sequence: list[tuple[int, Pair]] = []
        self._listeners = Listeners()
        self._bytes = 0
        self._marks: dict[str, int] = {}
        self._gaps: list[tuple[Milliseconds, Milliseconds]] = []
        self._lease = Lease(0, "", 0)
        self._slaves: dict[str, SlaveState] = {}
        self._quarantine: dict[str, Quarantined] = {}
        self._consumers: dict[str, ConsumerState] = {}

    # -- opening and closing -----------------------------------------------------------------------

    def open(self, algorithm: str) -> StoreInfo:
        with self._lock:
            if self._algorithm is None:
                self._algorithm = algorithm
            elif self._algorithm != algorithm:
                raise SettingsError(
                    f"HASH: the store was created with {self._algorithm} (got {algorithm}). "
                    "Restore HASH and HASH_KEY."
                )
            if not self._opened and not self.shared:
                self.end_lease()
            self._opened = True
            return self.info()

    def close(self) -> None:
        with self._lock:
            self._opened = False

    def info(self) -> StoreInfo:
        with self._lock:
            self._check_open()
            return StoreInfo(self._uuid, self._generation, self._algorithm or "")

    def check(self) -> None:
        with self._lock:
            self._check_open()

    def _check_open(self) -> None:
        if not self._opened:
            raise StoreError("the store is not open. Open it first.")

    # -- writing -----------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        with self._lock:
            self._check_open()
            self._insert(records)

    def _insert(self, records: Sequence[Record]) -> None:
        new = {record.pair: record for record in records if record.pair not in self._records}
        for pair, record in new.items():
            self._arrivals += 1
            self._arrival[pair] = self._arrivals
            self._sequence.append((self._arrivals, pair))
            self._records[pair] = record
            self._bytes += record.size + _OVERHEAD
        new_pairs = sorted(new)
        in_order = not self._order or not new_pairs or new_pairs[0] > self._order[-1]
        self._order += new_pairs
        if not in_order:
            self._order.sort()  # merges two sorted runs in linear time
        self._listeners.notify()

    def prune(self, before: Milliseconds) -> int:
        """Remove exactly the records older than ``before``; return their bytes."""
        with self._lock:
            self._check_open()
            return self._remove(bisect_left(self._order, Pair(before, 0)))

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        with self._lock:
            self._check_open()
            rest, count = self._bytes, 0
            while rest > limit and count < len(self._order):
                rest -= self._records[self._order[count]].size + _OVERHEAD
                count += 1
            if not count:
                return None
            start, end = self._order[0].timestamp, self._order[count - 1].timestamp + 1
            self._remove(bisect_left(self._order, Pair(end, 0)))
            if end <= asked:
                return None
            self._gaps.append((max(start, asked), end))
            return self._gaps[-1]

    def _remove(self, count: int) -> int:
        before = self._bytes
        for pair in self._order[:count]:
            self._bytes -= self._records.pop(pair).size + _OVERHEAD
            del self._arrival[pair]
        del self._order[:count]
        if len(self._sequence) > 2 * len(self._order):
            self._sequence = [item for item in self._sequence if self._is_current(*item)]
        return before - self._bytes

    def find_cut(self, at: Milliseconds) -> Milliseconds:
        return at

    def remove_after(self, cut: Milliseconds) -> None:
        with self._lock:
            self._check_open()
            first = bisect_left(self._order, Pair(cut, 0))
            for pair in self._order[first:]:
                self._bytes -= self._records.pop(pair).size + _OVERHEAD
                del self._arrival[pair]
            del self._order[first:]
            self._sequence = [item for item in self._sequence if self._is_current(*item)]

    def begin_generation(self) -> None:
        with self._lock:
            self._check_open()
            self._generation += 1

    def losses(self) -> list[Damage]:
        with self._lock:
            self._check_open()
            return [Damage("gap", GAP_REASON, *gap) for gap in self._gaps]

    def _is_current(self, number: int, pair: Pair) -> bool:
        return self._arrival.get(pair) == number

    def mark(self, name: str) -> int:
        with self._lock:
            self._check_open()
            return self._marks.get(name, 0)

    def marks(self, prefix: str) -> dict[str, int]:
        with self._lock:
            self._check_open()
            return {n: v for n, v in self._marks.items() if v > 0 and n.startswith(prefix)}

    def raise_mark(self, name: str, value: int) -> int:
        with self._lock:
            self._check_open()
            self._marks[name] = max(value, self._marks.get(name, 0))
            return self._marks[name]

    def set_mark(self, name: str, value: int) -> None:
        with self._lock:
            self._check_open()
            self._marks[name] = value

    # -- reading -----------------------------------------------------------------------------------

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        for batch in self._batches(start, end):
            yield from batch

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        for batch in self._batches(start, end):
            yield from self.fetch(batch)

    def _batches(self, start: Milliseconds, end: Milliseconds) -> Iterator[list[Pair]]:
        position, stop = Pair(start, 0), Pair(end, 0)
        with self._lock:
            last_arrival = self._arrivals
        while True:
            with self._lock:
                self._check_open()
                low = bisect_left(self._order, position)
                high = min(low + _BATCH, bisect_left(self._order, stop))
                seen = self._order[low:high]
                batch = [pair for pair in seen if self._arrival[pair] <= last_arrival]
            if not seen:
                return
            yield batch
            position = Pair(seen[-1].timestamp, seen[-1].hash + 1)

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        with self._lock:
            self._check_open()
            return iter([self._records[pair] for pair in pairs if pair in self._records])

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        with self._lock:
            self._check_open()
            high = bisect_left(self._order, Pair(before, 0))
            return self._order[max(high - limit, 0) : high][::-1]

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        if after and not _POSITION.fullmatch(after):
            raise BadRequest("after: is not a position. Use one that the feed gave.")
        number = int(after or "0", 16)
        with self._lock:
            self._check_open()
            last = self._arrivals
        while True:
            with self._lock:
                self._check_open()
                low = bisect_left(self._sequence, (number + 1, Pair(0, 0)))
                items = [item for item in self._sequence[low : low + _BATCH] if item[0] <= last]
                found = [
                    Arrival(f"{item[0]:x}", self._records[item[1]])
                    for item in items
                    if self._is_current(*item)
                ]
            if not items:
                return
            yield from found
            number = items[-1][0]

    def newest_arrival(self) -> str:
        with self._lock:
            self._check_open()
            return f"{self._arrivals:x}" if self._arrivals else BEGINNING

    def on_arrival(self, notify: Callable[[], object]) -> Callable[[], None]:
        return self._listeners.add(notify)

    def first(self) -> Milliseconds | None:
        with self._lock:
            self._check_open()
            return self._order[0].timestamp if self._order else None

    def last(self) -> Milliseconds | None:
        with self._lock:
            self._check_open()
            return self._order[-1].timestamp if self._order else None

    def status(self) -> StoreStatus:
        with self._lock:
            quarantine = self.quarantine_size()
            return StoreStatus(
                records=len(self._order),
                first=self.first(),
                last=self.last(),
                bytes=self._bytes + quarantine.bytes,
                gaps=tuple(self._gaps),
                quarantine=quarantine,
            )

    # -- the master's state ------------------------------------------------------------------------

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        with self._lock:
            self._check_open()
            if now < self._lease.expires:
                raise LeaseHeld(
                    f"{self._lease.holder} is syncing. Try again when that sync has ended."
                )
            self._lease = Lease(self._lease.token + 1, holder, now + ttl)
            return self._lease

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        with self._lock:
            self._check_lease(lease)
            self._lease = replace(self._lease, expires=now + ttl)
            return self._lease

    def release_lease(self, lease: Lease) -> None:
        with self._lock:
            self._check_open()
            if lease.token == self._lease.token:
                self._lease = Lease(lease.token + 1, "", 0)

    def end_lease(self) -> None:
        """End the lease of a process that has ended; no other process can hold it."""
        with self._lock:
            if self._lease.holder:
                self._lease = Lease(self._lease.token + 1, "", 0)

    def _check_lease(self, lease: Lease) -> None:
        self._check_open()
        if lease.token != self._lease.token:
            raise LeaseLost("this sync lost its lease to a newer one; nothing was written")

    def slave_states(self) -> dict[str, SlaveState]:
        with self._lock:
            self._check_open()
            return dict(self._slaves)

    def save_slave(self, lease: Lease, name: str, state: SlaveState) -> None:
        with self._lock:
            self._check_lease(lease)
            report: Mapping[str, object] = dict(state.report)
            self._slaves[name] = replace(state, report=report)

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        with self._lock:
            self._check_lease(lease)
            self._insert(records)

    def consumers(self) -> dict[str, ConsumerState]:
        with self._lock:
            self._check_open()
            return dict(self._consumers)

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        with self._lock:
            self._check_open()
            if state is None:
                self._consumers.pop(name, None)
            else:
                self._consumers[name] = state

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        with self._lock:
            self._check_lease(lease)
            for item in items:
                self._quarantine.setdefault(item.id, item)

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        with self._lock:
            self._check_lease(lease)
            return self._quarantine.pop(id_, None) is not None

    def quarantine(self) -> Iterator[Quarantined]:
        with self._lock:
            self._check_open()
            items = sorted(self._quarantine.values(), key=_get_position)
        yield from items

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        with self._lock:
            self._check_open()
            items = sorted(self._quarantine.values(), key=_get_position, reverse=True)
        found = [
            QuarantineEntry(
                _get_position(item),
                item.id,
                item.slave,
                item.at,
                item.reason,
                item.record.pair,
                item.record.size + _OVERHEAD,
            )
            for item in items
            if before is None or _get_position(item) < before
        ]
        return found[:limit]

    def find_quarantined(self, id_: str) -> Quarantined | None:
        with self._lock:
            self._check_open()
            return self._quarantine.get(id_)

    def quarantine_size(self) -> QuarantineSize:
        with self._lock:
            self._check_open()
            items = self._quarantine.values()
            size = sum(item.record.size + _OVERHEAD for item in items)
            return QuarantineSize(len(items), size)


def _get_position(item: Quarantined) -> str:
    return f"{max(item.at, 0):014x}{item.id}"
