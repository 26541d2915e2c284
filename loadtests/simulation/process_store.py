"""A process's way to its disk: any write can fail, be torn, stay in doubt, or be the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import TypeVar

from loadtests.simulation.disk import Disk
from portable_core.errors import StoreError
from portable_core.ports import (
    BEGINNING,
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
    Tombstone,
)
from portable_core.records import Pair, Record


class Accident(Enum):
    """What happens to one write."""

    NONE = auto()
    FAIL_BEFORE = auto()
    FAIL_TORN = auto()  # a part of the records is written
    FAIL_AFTER = auto()  # all is written, and the writer gets an error
    FAIL_LATE = auto()  # it may be written at any time until the next write or check
    KILL_BEFORE = auto()
    KILL_TORN = auto()
    KILL_AFTER = auto()


#: Decides what happens to a write, by the method's name.
Decide = Callable[[str], Accident]

#: Called with records that are on the disk from now on and were not before.
Observe = Callable[[Sequence[Record]], None]

_FAILS = (Accident.FAIL_BEFORE, Accident.FAIL_TORN, Accident.FAIL_AFTER, Accident.FAIL_LATE)
_TEARS = (Accident.FAIL_TORN, Accident.KILL_TORN)
_WRITES = (Accident.NONE, Accident.FAIL_AFTER, Accident.KILL_AFTER)

T = TypeVar("T")


class Killed(BaseException):
    """The process is dead. It unwinds everything, and nothing reaches the disk meanwhile."""

    def __init__(self, store: ProcessStore) -> None:
        super().__init__("killed")
        self.store = store


class ProcessStore:
    """The port ``MasterStore``, for as long as one process lives."""

    def __init__(self, disk: Disk, decide: Decide, observe: Observe) -> None:
        self.disk = disk
        self.lineage = disk.lineage
        self.alive = True
        self._decide = decide
        self._observe = observe
        self._late: list[Record] = []
        self._opened = False

    # -- life and death ----------------------------------------------------------------------------

    def kill(self) -> None:
        """Stop every write of this process to the disk. Writes in doubt are dropped."""
        self.alive = False
        self._late = []

    def settle_late(self, *, written: bool) -> None:
        """Decide what was in doubt."""
        late, self._late = self._late, []
        if late and written:
            self._put(late)

    def _check_alive(self) -> None:
        if not self.alive:
            raise Killed(self)

    def _write(
        self,
        name: str,
        effect: Callable[[], T],
        tear: Callable[[], object] = lambda: None,
        leave: Callable[[], object] = lambda: None,
    ) -> T:
        """Do what ``effect`` does, unless an accident happens: then a part, or later, or not."""
        self._check_alive()
        accident = self._decide(name)
        if accident in _WRITES:
            result = effect()
        elif accident in _TEARS:
            tear()
        elif accident is Accident.FAIL_LATE:
            leave()
        if accident is Accident.NONE:
            return result
        if accident in _FAILS:
            raise StoreError(f"{name}: the disk fails")
        self.kill()
        raise Killed(self)

    def _put(self, records: Sequence[Record]) -> None:
        new = [record for record in records if not self.disk.holds(record.pair)]
        self.disk.append(records)
        self._observe(new)

    def _save(self, lease: Lease, records: Sequence[Record]) -> None:
        new = [record for record in records if not self.disk.holds(record.pair)]
        self.disk.save_records(lease, records)
        self._observe(new)

    # -- the port Store ----------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        return self.disk.shared

    def open(self, algorithm: str) -> StoreInfo:
        self._check_alive()
        if not self._opened and not self.disk.shared:
            self.disk.end_lease()  # under the lock of the folder
        self._opened = True
        return self.disk.open(algorithm)

    def info(self) -> StoreInfo:
        self._check_alive()
        return self.disk.info()

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        self.settle_late(written=True)
        self._write(
            "append",
            lambda: self._put(records),
            lambda: self._put(records[::2]),
            lambda: self._late.extend(records),
        )

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        for pair in self.disk.pairs(start, end):
            self._check_alive()
            yield pair

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        for record in self.disk.records(start, end):
            self._check_alive()
            yield record

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        self._check_alive()
        return self.disk.fetch(pairs)

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        self._check_alive()
        return self.disk.latest(before, limit)

    def first(self) -> Milliseconds | None:
        self._check_alive()
        return self.disk.first()

    def last(self) -> Milliseconds | None:
        self._check_alive()
        return self.disk.last()

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        for arrival in self.disk.arrivals(after):
            self._check_alive()
            yield arrival

    def find_earlier(self, position: str, count: int) -> str:
        self._check_alive()
        return self.disk.find_earlier(position, count)

    def import_records(self, lease: Lease, records: Sequence[Record]) -> None:
        self._check_alive()
        self.disk.import_records(lease, records)

    def erase(self, tombstones: Sequence[Tombstone]) -> int:
        self._check_alive()
        return self.disk.erase(tombstones)

    def tombstones(self, after: int = 0) -> Iterator[tuple[int, Tombstone]]:
        self._check_alive()
        return self.disk.tombstones(after)

    def find_first_after(self, position: str) -> Milliseconds | None:
        self._check_alive()
        return self.disk.find_first_after(position)

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        self._check_alive()
        return self.disk.find_size_cut(limit, before)

    def newest_arrival(self) -> str:
        self._check_alive()
        return self.disk.newest_arrival()

    def on_arrival(self, notify: Callable[[], object]) -> Callable[[], None]:
        return self.disk.on_arrival(notify)

    def prune(self, before: Milliseconds) -> int:
        return self._write("prune", lambda: self.disk.prune(before))

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        self._check_alive()
        return self.disk.prune_to_size(limit, asked)

    def losses(self) -> list[Damage]:
        self._check_alive()
        return self.disk.losses()

    def mark(self, name: str) -> int:
        self._check_alive()
        return self.disk.mark(name)

    def marks(self, prefix: str) -> dict[str, int]:
        self._check_alive()
        return self.disk.marks(prefix)

    def raise_mark(self, name: str, value: int) -> int:
        return self._write("raise_mark", lambda: self.disk.raise_mark(name, value))

    def set_mark(self, name: str, value: int) -> None:
        self._write("set_mark", lambda: self.disk.set_mark(name, value))

    def check(self) -> None:
        self._write("check", self._settle_and_check)

    def _settle_and_check(self) -> None:
        self.settle_late(written=True)
        self.disk.check()

    def status(self) -> StoreStatus:
        self._check_alive()
        return self.disk.status()

    def close(self) -> None:
        """The disk stays: other processes may be using it."""

    # -- the port MasterState ----------------------------------------------------------------------

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        return self._write("acquire_lease", lambda: self.disk.acquire_lease(holder, now, ttl))

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        return self._write("renew_lease", lambda: self.disk.renew_lease(lease, now, ttl))

    def release_lease(self, lease: Lease) -> None:
        self._write("release_lease", lambda: self.disk.release_lease(lease))

    def slave_states(self) -> dict[str, SlaveState]:
        self._check_alive()
        return self.disk.slave_states()

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        self._write("save_slave", lambda: self.disk.save_slave(lease, name, state))

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        self._write(
            "save_records",
            lambda: self._save(lease, records),
            lambda: self._save(lease, records[: (len(records) + 1) // 2]),
        )

    def consumers(self) -> dict[str, ConsumerState]:
        self._check_alive()
        return self.disk.consumers()

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        self._write("save_consumer", lambda: self.disk.save_consumer(name, state))

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        self._write(
            "save_quarantine",
            lambda: self.disk.save_quarantine(lease, items),
            lambda: self.disk.save_quarantine(lease, items[::2]),
        )

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        return self._write("delete_quarantined", lambda: self.disk.delete_quarantined(lease, id_))

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        self._check_alive()
        return self.disk.list_quarantine(before, limit)

    def find_quarantined(self, id_: str) -> Quarantined | None:
        self._check_alive()
        return self.disk.find_quarantined(id_)

    def quarantine_size(self) -> QuarantineSize:
        self._check_alive()
        return self.disk.quarantine_size()

    def quarantine(self) -> Iterator[Quarantined]:
        self._check_alive()
        return self.disk.quarantine()
