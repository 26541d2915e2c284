"""``memory:``, a store that exists as long as its process: for tests, simulations and trials.

The object itself is the database: it keeps everything when it is closed and opened again.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence

from portable_core.adapters.memory_store.master_state import OVERHEAD, MemoryMasterState
from portable_core.adapters.memory_store.positions import format_number, parse_number
from portable_core.errors import SettingsError
from portable_core.listeners import Listeners
from portable_core.ports import (
    BEGINNING,
    GAP_REASON,
    Arrival,
    Damage,
    Lease,
    Milliseconds,
    StoreInfo,
    StoreStatus,
    Tombstone,
)
from portable_core.records import Pair, Record

#: Pairs that an iterator reads while it holds the lock.
_BATCH = 1024


#: The unit of :meth:`MemoryStore.find_size_cut`.
HOUR_MS = 3_600_000


class MemoryStore(MemoryMasterState):
    """Store and master's state in dictionaries under one lock. Safe to use from any thread."""

    shared = False

    def __init__(self, uuid_: str | None = None) -> None:
        super().__init__()
        self._uuid = uuid_ or str(uuid.uuid4())
        self._algorithm: str | None = None
        self._generation = 1
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
        self._tombstones: dict[Pair, Tombstone] = {}

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
            self._bytes += record.size + OVERHEAD
        new_pairs = sorted(new)
        in_order = not self._order or not new_pairs or new_pairs[0] > self._order[-1]
        self._order += new_pairs
        if not in_order:
            self._order.sort()  # merges two sorted runs in linear time
        self._listeners.notify()

    def import_records(self, lease: Lease, records: Sequence[Record]) -> None:
        with self._lock:
            self._check_lease(lease)
            for record in sorted(records, key=lambda record: record.pair):
                if record.pair not in self._records:
                    self._records[record.pair] = record
                    self._arrival[record.pair] = 0
                    insort(self._sequence, (0, record.pair))
                    insort(self._order, record.pair)
                    self._bytes += record.size + OVERHEAD

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
                rest -= self._records[self._order[count]].size + OVERHEAD
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
            self._bytes -= self._records.pop(pair).size + OVERHEAD
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
                self._bytes -= self._records.pop(pair).size + OVERHEAD
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
            found = [self._records[pair] for pair in pairs if pair in self._records]
            return iter([record for record in found if record.erased is None])

    def erase(self, tombstones: Sequence[Tombstone]) -> int:
        with self._lock:
            self._check_open()
            erased = 0
            for tombstone in tombstones:
                pair = tombstone.pair
                self._tombstones.setdefault(pair, tombstone)
                record = self._records.get(pair)
                if record is not None and record.erased is None:
                    self._bytes -= record.size
                    self._records[pair] = Record(pair, b"", erased=tombstone.at)
                    erased += 1
            return erased

    def tombstones(self, after: int = 0) -> Iterator[tuple[int, Tombstone]]:
        with self._lock:
            self._check_open()
            return iter(list(enumerate(self._tombstones.values(), 1))[after:])

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        with self._lock:
            self._check_open()
            high = bisect_left(self._order, Pair(before, 0))
            return self._order[max(high - limit, 0) : high][::-1]

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        place = parse_number(after)
        with self._lock:
            self._check_open()
            last = self._arrivals
        while True:
            with self._lock:
                self._check_open()
                low = bisect_right(self._sequence, place)
                items = [item for item in self._sequence[low : low + _BATCH] if item[0] <= last]
                found = [
                    Arrival(format_number(*item), self._records[item[1]])
                    for item in items
                    if self._is_current(*item) and self._records[item[1]].erased is None
                ]
            if not items:
                return
            yield from found
            place = items[-1]

    def find_first_after(self, position: str) -> Milliseconds | None:
        place = parse_number(position)
        with self._lock:
            self._check_open()
            later = self._sequence[bisect_right(self._sequence, place) :]
            return min((p.timestamp for n, p in later if self._is_current(n, p)), default=None)

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        with self._lock:
            self._check_open()
            if not self._order:
                return 0
            end, newest = (
                before // HOUR_MS * HOUR_MS,
                self._order[-1].timestamp // HOUR_MS * HOUR_MS,
            )
            old = self._order[: bisect_left(self._order, Pair(end, 0))]
            sizes = [(pair, self._records[pair].size + OVERHEAD) for pair in old]
            rest, cut = sum(size for _, size in sizes), 0
            for pair, size in sizes:
                if rest <= limit or pair.timestamp >= newest:
                    break
                rest -= size
                cut = (pair.timestamp // HOUR_MS + 1) * HOUR_MS
            return cut

    def find_earlier(self, position: str, count: int) -> str:
        number = max(parse_number(position)[0] - count, 0)
        return f"{number:x}" if number else BEGINNING

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

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        with self._lock:
            self._check_lease(lease)
            self._insert(records)
