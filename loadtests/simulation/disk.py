"""A disk: what survives its processes. It can be damaged, mended, copied, restored, corrupted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from msgspec import structs

from portable_core.adapters.memory_store import MemoryStore
from portable_core.ports import MAX_SPAN_MS, Lease, Milliseconds, SlaveState, StoreInfo
from portable_core.records import Pair, Record


@dataclass(frozen=True, slots=True)
class Image:
    """What a disk held at one moment."""

    uuid: str
    generation: int
    records: tuple[Record, ...]
    marks: dict[str, int]
    slaves: dict[str, SlaveState]
    lease: Lease


_LINEAGES = count(1)


class Disk(MemoryStore):
    """A memory store with an identity, a generation, and a life of its own.

    ``reach``: how far before lost records cursors are set back. Stores, which do not know the span,
    take the longest one; the span itself has to do. ``lineage`` is another one after each restore
    and for each copy; no node knows it.
    """

    def __init__(self, uuid_: str, *, shared: bool, reach: Milliseconds = MAX_SPAN_MS) -> None:
        super().__init__(uuid_)
        self._reach = reach
        self.shared = shared
        self.generation = 1
        self.lineage = next(_LINEAGES)
        self._last_generation = 1
        self._hidden: list[Record] = []

    @property
    def uuid(self) -> str:
        return self._uuid

    def info(self) -> StoreInfo:
        return replace(super().info(), generation=self.generation)

    def holds(self, pair: Pair) -> bool:
        return pair in self._records

    @property
    def leased_until(self) -> Milliseconds:
        """Return the end of the unreleased lease; a clock that was ahead may have set it."""
        return self._lease.expires

    def has_reported(self, stint: str, horizon: Milliseconds) -> bool:
        """Return whether the disk knows that this stint has reported this horizon."""
        return self._marks.get(f"stint-{stint}", 0) >= max(horizon, 1)

    def all_records(self) -> list[Record]:
        return [self._records[pair] for pair in self._order]

    def begin_generation(self) -> None:
        self._grow()

    def _grow(self) -> None:
        """Begin a generation that was never reported, not even by a later epoch than this one."""
        self._last_generation += 1
        self.generation = self._last_generation

    # -- accidents ---------------------------------------------------------------------------------

    def damage(self, start: Milliseconds, end: Milliseconds) -> list[Record]:
        """Make the records of ``[start, end)`` unreadable; returns them.

        For a master every cursor goes back to the first of them, and a sync under way loses its
        lease: the stores do so by themselves.
        """
        lost = [record for record in self.all_records() if start <= record.pair.timestamp < end]
        if lost:
            self._forget(lost)
            self._hidden += lost
            self._set_back(lost[0].pair.timestamp)
        return lost

    def _set_back(self, lost_from: Milliseconds) -> None:
        back = max(lost_from - self._reach, 0)
        for name, state in self._slaves.items():
            if state.cursor is not None:
                self._slaves[name] = replace(state, cursor=min(state.cursor, back), part=None)
        if self._lease.holder:
            self._lease = Lease(self._lease.token + 1, "", 0)

    def mend(self) -> list[Record]:
        """Make everything damaged readable again, in a new generation; returns it."""
        back = list({record.pair: record for record in self._hidden}.values())
        back = [record for record in back if not self.holds(record.pair)]
        self._hidden = []
        if back:
            self._insert(back)
            self._grow()
        return back

    def corrupt(self, pair: Pair, payload: bytes) -> None:
        """Replace the bytes of a stored record."""
        self._records[pair] = structs.replace(self._records[pair], payload=payload)

    def copy(self) -> Image:
        return Image(
            self.uuid,
            self.generation,
            tuple(self.all_records()),
            dict(self._marks),
            dict(self._slaves),
            self._lease,
        )

    def restore(self, image: Image) -> list[Record]:
        """Become what ``image`` says, as if nothing had been since; returns the records now gone.

        No process uses the disk.
        """
        kept = {record.pair for record in image.records}
        gone = [record for record in self.all_records() if record.pair not in kept]
        self._forget(self.all_records())
        self._hidden = []
        self._insert(image.records)
        self._marks, self._slaves = dict(image.marks), dict(image.slaves)
        self._lease, self.generation = image.lease, image.generation
        self.lineage = next(_LINEAGES)
        return gone

    def _forget(self, records: Iterable[Record]) -> None:
        pairs = {record.pair for record in records}
        kept = [record for record in self.all_records() if record.pair not in pairs]
        self._remove(len(self._order))
        self._insert(kept)
