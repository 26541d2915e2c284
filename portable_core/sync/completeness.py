"""The time up to which a master is complete: every webhook before it is in the master.

``GET /status``, the console, the metrics and the feed all use these functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.ports import Milliseconds, SlaveState


def slave_complete_until(state: SlaveState) -> Milliseconds:
    """Return the time before which every record of one slave is represented in the master.

    0 for a slave that was never synced.
    """
    return state.cursor or 0


def complete_until(horizon: Milliseconds, states: Iterable[SlaveState]) -> Milliseconds:
    """Return the time before which the master holds every webhook of every node.

    ``horizon`` is the master's own; ``states`` are those of the slaves that are to be synced.
    0 if one of them was never synced.
    """
    return min([horizon, *map(slave_complete_until, states)])
