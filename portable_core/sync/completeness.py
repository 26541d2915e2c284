"""The time up to which a master is complete: every webhook before it is in the master.

``GET /status``, the console and the metrics use :func:`complete_until`, retention
:func:`removable_until`. The feed uses
:func:`synced_until`: what is lost cannot be added to it any more, and must not end it.
"""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.ports import Milliseconds, SlaveState
from portable_core.sync.resuming import find_open_losses


def slave_complete_until(state: SlaveState) -> Milliseconds:
    """Return the time before which every webhook of one slave is represented in the master.

    It is not after the start of a loss that no operator has acknowledged. 0 for a slave that was
    never synced.
    """
    lost = [loss.start or 0 for loss in find_open_losses(state.losses)]
    return min([state.cursor or 0, *lost])


def removable_until(state: SlaveState, floor: Milliseconds) -> Milliseconds:
    """Return the time before which retention needs to keep nothing for one slave.

    Records of a loss may come back, and are then compared with the master's. Those before the
    ``floor`` of the master are not.
    """
    losses = [loss for loss in find_open_losses(state.losses) if (loss.end or floor + 1) > floor]
    return min([state.cursor or 0, *(loss.start or 0 for loss in losses)])


def complete_until(horizon: Milliseconds, states: Iterable[SlaveState]) -> Milliseconds:
    """Return the time before which the master holds every webhook of every node.

    ``horizon`` is the master's own; ``states`` are those of the slaves that are to be synced.
    0 if one of them was never synced.
    """
    return min([horizon, *map(slave_complete_until, states)])


def synced_until(horizon: Milliseconds, states: Iterable[SlaveState]) -> Milliseconds:
    """Return the time before which no sync will add a webhook to the master.

    The arguments are those of :func:`complete_until`; losses do not count.
    """
    return min([horizon, *(state.cursor or 0 for state in states)])
