"""The rules about clocks, repeats and repairs, removed one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from loadtests.simulation.disk import Disk
from loadtests.simulation.nodes import CoreParts
from portable_core.ingest.plausible_clock import PlausibleClock
from portable_core.ingest.repeats import Repeats
from portable_core.records import MAX_INTEGER
from portable_core.sync.repair import Repair
from portable_core.sync.repair_plan import Ahead

Mutant = Callable[[pytest.MonkeyPatch], CoreParts]


def any_date_is_used(patch: pytest.MonkeyPatch) -> CoreParts:
    """Every reading of the clock is used at once."""
    patch.setattr(PlausibleClock, "now", PlausibleClock.read)
    return CoreParts()


def repeats_never_collapse(patch: pytest.MonkeyPatch) -> CoreParts:
    """Equal webhooks of one moment all get pairs of their own."""
    patch.setattr(Repeats, "find", lambda self, key: None)
    return CoreParts()


def leases_outlive_processes(patch: pytest.MonkeyPatch) -> CoreParts:
    """The lease of a dead process counts until it expires by the clock of that process."""

    class Patient(Disk):
        def end_lease(self) -> None:
            pass

    return CoreParts(disk=Patient)


def repair_keeps_the_horizon(patch: pytest.MonkeyPatch) -> CoreParts:
    """A repair moves the records and leaves the horizon where the wrong clock had put it."""
    patch.setattr(Repair, "_set_back_horizon", lambda self: None)
    return CoreParts()


def repair_begins_no_generation(patch: pytest.MonkeyPatch) -> CoreParts:
    """Records that a repair has moved appear before a horizon of the same generation."""

    class Steady(Disk):
        def begin_generation(self) -> None:
            pass

    return CoreParts(disk=Steady)


def repair_removes_first(patch: pytest.MonkeyPatch) -> CoreParts:
    """A repair removes the old records before it has appended the new ones."""
    copy = Repair._copy

    def remove_first(self: Repair, ahead: Ahead, cut: int) -> None:
        records = list(self._store.records(cut, MAX_INTEGER + 1))
        self._store.remove_after(cut)
        with pytest.MonkeyPatch.context() as here:
            here.setattr(self._store, "records", lambda *_: iter(records), raising=False)
            copy(self, ahead, cut)

    patch.setattr(Repair, "_copy", remove_first)
    return CoreParts()


CLOCK_MUTANTS: Sequence[Mutant] = (
    any_date_is_used,
    repeats_never_collapse,
    leases_outlive_processes,
    repair_keeps_the_horizon,
    repair_begins_no_generation,
    repair_removes_first,
)
