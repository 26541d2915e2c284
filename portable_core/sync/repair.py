"""``webhook-sync repair``: give records right timestamps if theirs are ahead of the clock.

The true times are unknown. With an offset it is subtracted. Otherwise the newest of these records
gets the time of the repair, and the others keep their distances to it, but a pause of more than a
day becomes a day: so two faults of different size do not end in the distant past.

The steps, each durable before the next; a repair that was interrupted continues at its step:

1. Marks hold the plan: everything that follows is computed from them and from the records.
2. A new generation begins, so that every master compares again what appears before old horizons.
3. The records are appended with their new timestamps. That is idempotent.
4. The cursors of a master's slaves are reset, because moved records represent webhooks no more at
   their old times.
5. The old ones are removed.
6. The horizon is set back, and the plan is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

import msgspec
from msgspec import structs

from portable_core.errors import SettingsError
from portable_core.ingest.plausible_clock import find_limit
from portable_core.ingest.receiver import HORIZON_MARK
from portable_core.ports import MasterStore, Milliseconds
from portable_core.records import MAX_INTEGER, Integer, Pair, Record
from portable_core.sync.repair_plan import Ahead, plan_shifts

#: The marks of a plan. The cut is set last and removed first, so the others count with it alone.
CUT_MARK = "repair-cut"
NOW_MARK = "repair-now"
OFFSET_MARK = "repair-offset"
COPIED_MARK = "repair-copied"

_END = MAX_INTEGER + 1

_BATCH_RECORDS = 500
_BATCH_BYTES = 8 * 2**20

#: How many milliseconds later timestamps are tried if a record has a pair already.
_MOST_TRIES = 1_000

#: The most keys that are compared to count copies.
_MOST_KEYS = 1_000_000

_LEASE_MS = 60_000

_Item = TypeVar("_Item")


class RepairableStore(MasterStore, Protocol):
    """A store whose last records can be removed, while no node uses it. Every shipped one is."""

    def find_cut(self, at: Milliseconds) -> Milliseconds:
        """Return the first time from ``at`` on at which :meth:`remove_after` can cut."""
        ...

    def remove_after(self, cut: Milliseconds) -> None:
        """Remove every record from ``cut`` on, and no other.

        An interrupted call is completed by another one. Another process that reads meanwhile gets
        every other record.
        """
        ...

    def begin_generation(self) -> None:
        """Begin a new generation, durably: records may appear before a reported horizon."""
        ...


class RepairReport(msgspec.Struct, frozen=True):
    """What a repair has done, or would do.

    - ``records``: the records before it; ``records_after``: after it, None for a dry run.
    - ``ahead``: the records whose timestamps are ahead; ``moved``: those that were moved.
    - ``first`` and ``last``: their timestamps; ``new_first`` and ``new_last``: the new ones.
    - ``marks_ahead``: whether the horizon was ahead.
    - ``copies``: records at the new times whose key another record there has too; None if that was
      not counted.
    - ``continued``: whether it completed an interrupted repair.
    """

    records: Integer
    ahead: Integer
    dry_run: bool
    first: Milliseconds | None = None
    last: Milliseconds | None = None
    new_first: Milliseconds | None = None
    new_last: Milliseconds | None = None
    marks_ahead: bool = False
    moved: Integer = 0
    records_after: Integer | None = None
    copies: Integer | None = None
    slaves_reset: Integer = 0
    continued: bool = False


#: Called with the name of a step and how many records it has passed.
Progress = Callable[[str, int], object]


class Repair:
    """One repair of a store that is open, and that no node uses."""

    def __init__(
        self,
        store: RepairableStore,
        now: Milliseconds,
        span: Milliseconds,
        offset: Milliseconds = 0,
        progress: Progress = lambda step, records: None,
    ) -> None:
        self._store = store
        self._now = now
        self._limit = find_limit(span)
        self._span = span
        self._offset = offset
        self._progress = progress

    def run(self, *, dry_run: bool = False) -> RepairReport:
        """Repair the store, or complete an earlier repair.

        Raises ``SettingsError`` for an offset that leaves records ahead or moves them before 1970,
        ``StoreError``.
        """
        store = self._store
        cut = store.mark(CUT_MARK)
        continued = cut > 0
        if continued:
            self._now, self._offset = store.mark(NOW_MARK), store.mark(OFFSET_MARK)
        else:
            cut = store.find_cut(self._now + self._limit + 1)
        marks_ahead = store.mark(HORIZON_MARK) > self._now + self._limit
        copied = continued and store.mark(COPIED_MARK) > 0
        ahead = None if copied else self._find_ahead(cut)
        report = RepairReport(
            records=self._count(_END),
            ahead=0 if ahead is None else ahead.records,
            dry_run=dry_run,
            marks_ahead=marks_ahead,
            continued=continued,
        )
        if ahead is not None:
            if not continued:
                ahead = self._avoid_collisions(ahead, cut)
            report = self._describe(report, ahead)
        if dry_run:
            return report
        if ahead is None and not marks_ahead and not continued:
            self._remove_plan()  # what an interruption may have left of it
            return report
        if not continued:
            store.set_mark(COPIED_MARK, 0)
            store.set_mark(NOW_MARK, self._now)
            store.set_mark(OFFSET_MARK, self._offset)
            store.set_mark(CUT_MARK, cut)
        store.begin_generation()
        copies: int | None = None
        if ahead is not None:
            self._copy(ahead, cut)
            copies = self._count_copies(ahead, cut)
        slaves = self._reset_slaves()
        store.set_mark(COPIED_MARK, 1)
        store.remove_after(cut)
        self._set_back_horizon()
        self._remove_plan()
        return msgspec.structs.replace(
            report,
            moved=report.ahead,
            records_after=self._count(_END),
            copies=copies,
            slaves_reset=slaves,
        )

    # -- the plan ------------------------------------------------------------------------------

    def _find_ahead(self, cut: Milliseconds) -> Ahead | None:
        ahead = plan_shifts(
            (pair.timestamp for pair in self._watch("examined", self._store.pairs(cut, _END))),
            self._now,
            self._offset,
        )
        if ahead is None:
            return None
        first, last = (ahead.shifts.move(Pair(at, 0)).timestamp for at in (ahead.first, ahead.last))
        if last > self._now + self._limit:
            raise SettingsError(
                f"--offset: leaves records {(last - self._now) / 1000:.0f} s ahead of the clock. "
                f"The newest record is {(ahead.last - self._now) / 1000:.0f} s ahead."
            )
        if first < 0:
            raise SettingsError("--offset: moves records before 1970. Choose a smaller one.")
        return ahead

    def _avoid_collisions(self, ahead: Ahead, cut: Milliseconds) -> Ahead:
        """Return the plan with which no moved record gets the pair of another record."""
        for _ in range(_MOST_TRIES):
            if not self._collides(ahead, cut):
                return ahead
            if self._offset:
                self._offset += 1
            else:
                self._now -= 1
            again = self._find_ahead(cut)
            assert again is not None  # noqa: S101 -- the records are the same
            ahead = again
        raise SettingsError("--offset: every time near this one is in use. Choose another one.")

    def _collides(self, ahead: Ahead, cut: Milliseconds) -> bool:
        low = ahead.shifts.move(Pair(ahead.first, 0)).timestamp
        there = self._store.pairs(low, cut)
        known = next(there, None)
        for pair in self._store.pairs(cut, _END):
            moved = ahead.shifts.move(pair)
            while known is not None and known < moved:
                known = next(there, None)
            if known is None:
                return False
            if known == moved:
                return True
        return False

    @staticmethod
    def _describe(report: RepairReport, ahead: Ahead) -> RepairReport:
        return msgspec.structs.replace(
            report,
            first=ahead.first,
            last=ahead.last,
            new_first=ahead.shifts.move(Pair(ahead.first, 0)).timestamp,
            new_last=ahead.shifts.move(Pair(ahead.last, 0)).timestamp,
        )

    # -- the steps -----------------------------------------------------------------------------

    def _copy(self, ahead: Ahead, cut: Milliseconds) -> None:
        batch: list[Record] = []
        size = 0
        for record in self._watch("copied", self._store.records(cut, _END)):
            batch.append(structs.replace(record, pair=ahead.shifts.move(record.pair)))
            size += record.size
            if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                self._store.append(batch)
                batch, size = [], 0
        if batch:
            self._store.append(batch)

    def _count_copies(self, ahead: Ahead, cut: Milliseconds) -> int | None:
        """Return how many records near the moved ones repeat the key of another one there.

        None if too many were moved to be compared in memory.
        """
        if ahead.records > _MOST_KEYS:
            return None
        moved = {record.meta.key for record in self._store.records(cut, _END)} - {""}
        low, high = (ahead.shifts.move(Pair(at, 0)).timestamp for at in (ahead.first, ahead.last))
        near = self._store.records(max(0, low - self._span), min(high + self._span, cut))
        seen: set[str] = set()
        copies = 0
        for record in self._watch("compared", near):
            key = record.meta.key
            if key in moved:
                copies += key in seen
                seen.add(key)
        return copies

    def _reset_slaves(self) -> int:
        """Reset the cursors of a master's slaves; return how many slaves it has."""
        store = self._store
        states = store.slave_states()
        if states:
            lease = store.acquire_lease("repair", self._now, _LEASE_MS)
            try:
                for name, state in states.items():
                    store.save_slave(lease, name, replace(state, cursor=0, part=None))
            finally:
                store.release_lease(lease)
        return len(states)

    def _set_back_horizon(self) -> None:
        last = self._store.last()
        horizon = max(self._now, 0 if last is None else last + 1)
        if self._store.mark(HORIZON_MARK) > horizon:
            self._store.set_mark(HORIZON_MARK, horizon)

    def _remove_plan(self) -> None:
        for mark in (CUT_MARK, COPIED_MARK, NOW_MARK, OFFSET_MARK):
            self._store.set_mark(mark, 0)

    # -- counting ------------------------------------------------------------------------------

    def _count(self, end: Milliseconds) -> int:
        return sum(1 for _ in self._watch("counted", self._store.pairs(0, end)))

    def _watch(self, step: str, items: Iterable[_Item]) -> Iterator[_Item]:
        for number, item in enumerate(items, 1):
            yield item
            if number % 10_000 == 0:
                self._progress(step, number)
