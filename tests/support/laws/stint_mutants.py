"""The rules about restored disks, removed one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from msgspec import structs

import portable_core.sync.resuming
from loadtests.simulation.network import SimulatedClient
from loadtests.simulation.nodes import CoreParts
from portable_core.epochs import NotedLoss
from portable_core.ingest.stints import Stints
from portable_core.ports import SlaveInfo, SlaveState, SyncAnswer, SyncRequest
from tests.support.laws.clock_mutants import Mutant


def stints_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A slave's store is the same as long as its UUID and its generation are."""
    patch.setattr(Stints, "knows", lambda self, stint: True)
    return CoreParts()


def stints_without_horizons(patch: pytest.MonkeyPatch) -> CoreParts:
    """A store that has a stint counts as one that continues it, whatever horizon it reported."""
    knows = Stints.knows
    patch.setattr(Stints, "knows", lambda self, stint: knows(self, stint._replace(horizon=0)))
    return CoreParts()


def any_stint_is_asked(patch: pytest.MonkeyPatch) -> CoreParts:
    """A window is requested without a stint of the slave's store in which it begins."""

    class Vague(SimulatedClient):
        @contextmanager
        def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
            with super().exchange(replace(request, stint=None)) as answer:
                yield answer

    return CoreParts(client=Vague)


def losses_not_noted(patch: pytest.MonkeyPatch) -> CoreParts:
    """A slave with an earlier store is compared again, and what it lost is not named."""
    merge = portable_core.sync.resuming.merge_losses

    def forget(state: SlaveState, info: SlaveInfo, *, continues: bool) -> tuple[NotedLoss, ...]:
        return merge(state, structs.replace(info, ephemeral=True), continues=continues)

    patch.setattr(portable_core.sync.resuming, "merge_losses", forget)
    return CoreParts()


def stint_per_disk(patch: pytest.MonkeyPatch) -> CoreParts:
    """All processes of a disk, and of its copies, write under one stint."""

    def begin(self: Stints) -> None:
        self._id, self._reported = f"{1:032x}", 0

    patch.setattr(Stints, "_begin", begin)
    return CoreParts()


STINT_MUTANTS: Sequence[Mutant] = (
    stints_ignored,
    stints_without_horizons,
    any_stint_is_asked,
    losses_not_noted,
    stint_per_disk,
)
