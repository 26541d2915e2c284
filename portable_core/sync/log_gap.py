"""What a provider's delivery log no longer lists, although it was not read.

A log lists a delivery for some days. If no sync has read it for longer, what came between may be
lost: it is noted as a loss, which an operator acknowledges.
"""

from __future__ import annotations

from dataclasses import replace

from portable_core.epochs import NotedLoss
from portable_core.ports import Milliseconds, SlaveInfo, SlaveState
from portable_core.sync.resuming import add_loss, make_loss_id

NOT_READ = "the delivery log was not read for longer than it reaches"


class LogInfo(SlaveInfo, frozen=True):
    """How a delivery log looks to a sync. ``reached``: it lists nothing before this time."""

    reached: Milliseconds = 0


def note_gap(before: SlaveState, state: SlaveState, info: SlaveInfo) -> SlaveState:
    """Return the state, with a loss if the log no longer reaches to the cursor of ``before``."""
    if not isinstance(info, LogInfo) or before.store != info.store or before.cursor is None:
        return state
    if before.cursor >= info.reached:
        return state
    id_ = make_loss_id("log", info.store, before.cursor)
    gap = NotedLoss(id_, "log", NOT_READ, before.cursor, info.reached, info.now, reported=False)
    return replace(state, losses=add_loss(state.losses, gap))
