"""The first request of a sync, ``GET /sync``, and what follows from its response."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from portable_core.errors import ClocksDiffer
from portable_core.ports import KeepWaiting, Milliseconds, SlaveClient, SlaveInfo, SlaveState
from portable_core.sync.agreement import check_agreement
from portable_core.sync.clocks import NodeTime, diagnose, meet
from portable_core.sync.erasing import hand_over_tombstones
from portable_core.sync.merge import SyncContext
from portable_core.sync.progress import Progress
from portable_core.sync.resuming import describe_loss, find_open_losses, resume
from portable_core.wire.negotiation import Encoding

logger = logging.getLogger(__name__)


class Introduction(NamedTuple):
    """The slave's description, the state to continue from, and the encodings of both nodes.

    ``differing``: what keeps this sync from being complete, although all of it can be done.
    """

    info: SlaveInfo
    state: SlaveState
    encodings: list[Encoding]
    differing: str


def introduce(
    context: SyncContext,
    client: SlaveClient,
    state: SlaveState,
    progress: Progress,
    keep_waiting: KeepWaiting,
    now: Callable[[], Milliseconds],
) -> Introduction:
    """Ask a slave what it is, and compare it with this master.

    ``now`` returns the timestamp that the master would assign. Raises ``AnswerInvalid`` if the
    nodes disagree, ``ClocksDiffer``, and the client's errors.
    """
    before = NodeTime(context.clock.read(), now())
    info = client.describe(keep_waiting, state.stint, before.clock)
    progress.horizon = info.horizon
    encodings = check_agreement(context.settings, context.algorithm, context.identifier, info)
    differing = _compare_clocks(context, client.name, info, progress, before, now)
    resumed = _resume(client.name, state, info)
    anew = resumed.cursor is None
    hand_over_tombstones(context.store, client, info, progress, keep_waiting, anew=anew)
    return Introduction(info, resumed, encodings, differing)


def _compare_clocks(
    context: SyncContext,
    name: str,
    info: SlaveInfo,
    progress: Progress,
    before: NodeTime,
    now: Callable[[], Milliseconds],
) -> str:
    """Return what keeps the sync from being complete. Raise ``ClocksDiffer`` if it must wait.

    The slave read its clock somewhere between two readings of the master's.
    """
    clock, peers = context.clock, context.peer_clocks
    if info.clock is not None:
        if not context.store.shared:
            clock.confirm(info.clock)
        peers.note(name, info.clock, clock.monotonic())
    others = peers.estimate(clock.monotonic(), name)
    slave = NodeTime(info.clock, info.now)
    master = meet(before, NodeTime(clock.read(), now()), slave)
    progress.skew_ms = info.now - master.timestamp
    found = diagnose(master, slave, others, context.settings.span_ms)
    if found is None:
        return ""
    if found.stops:
        raise ClocksDiffer(found.text)
    progress.warn(found.text)
    return found.text if found.fails else ""


def _resume(name: str, state: SlaveState, info: SlaveInfo) -> SlaveState:
    """Return the state to continue from; log what the slave may have lost since."""
    before = {loss.id for loss in find_open_losses(state.losses)}
    resumed = resume(state, info)
    for loss in find_open_losses(resumed.losses):
        if loss.id not in before:
            logger.warning(
                "slave %s: acknowledged webhooks may be lost: %s", name, describe_loss(loss)
            )
    return resumed
