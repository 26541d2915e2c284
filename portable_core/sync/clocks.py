"""Which clock, or which store's timestamps, is off when a master and a slave disagree.

The next timestamp of a node is never before an earlier one. So it follows the node's clock, unless
the clock was ahead once: then the timestamps of the store stay ahead of a clock that is right.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from portable_core.ingest.plausible_clock import find_limit
from portable_core.ports import Milliseconds

#: For how long the reading of another slave's clock says something about this sync, in seconds.
_RECENT_S = 3600.0


class NodeTime(NamedTuple):
    """The time at a node: its clock, None for older releases, and its next timestamp."""

    clock: Milliseconds | None
    timestamp: Milliseconds

    def find_lead(self) -> Milliseconds:
        """Return how far the timestamps are ahead of the clock; 0 if that is unknown."""
        return 0 if self.clock is None else max(0, self.timestamp - self.clock)


class Diagnosis(NamedTuple):
    """What is off, and what to do.

    - ``part``: ``slave's clock``, ``master's clock``, ``a clock``, ``slave's store``,
      ``master's store``, ``both stores``.
    - ``text``: a sentence for people.
    - ``stops``: whether the slave must not be synced.
    - ``fails``: whether the sync is not complete in any case.
    """

    part: str
    text: str
    stops: bool
    fails: bool


class PeerClocks:
    """The clocks of the slaves as last read, beside a clock that no date moves. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, tuple[Milliseconds, float]] = {}

    def note(self, slave: str, clock: Milliseconds, elapsed: float) -> None:
        """Note a slave's clock, read at ``elapsed`` seconds of this node's monotonic clock."""
        with self._lock:
            self._read[slave] = clock, elapsed

    def estimate(self, elapsed: float, without: str) -> list[Milliseconds]:
        """Return what the clocks of the slaves but one show now."""
        with self._lock:
            read = {name: found for name, found in self._read.items() if name != without}
        return [
            clock + round((elapsed - at) * 1000)
            for clock, at in read.values()
            if elapsed - at <= _RECENT_S
        ]


def meet(before: NodeTime, after: NodeTime, slave: NodeTime) -> NodeTime:
    """Return the time at the master when the slave read its own, between two readings here.

    It is the one that is closest to the slave's: the slave gets the benefit of the doubt.
    """
    clock = after.clock
    if before.clock is not None and after.clock is not None and slave.clock is not None:
        clock = min(max(slave.clock, before.clock), after.clock)
    return NodeTime(clock, min(max(slave.timestamp, before.timestamp), after.timestamp))


def diagnose(
    master: NodeTime, slave: NodeTime, others: Sequence[Milliseconds], span: Milliseconds
) -> Diagnosis | None:
    """Return what is off between a master and a slave; None if timestamps and clocks agree.

    ``others`` are the clocks of other slaves at the same moment.
    """
    limit = find_limit(span)
    skew = slave.timestamp - master.timestamp
    apart = 0 if master.clock is None or slave.clock is None else slave.clock - master.clock
    if abs(skew) <= limit and abs(apart) <= limit:
        return None
    far = abs(skew) * 2 > span
    if master.clock is None or slave.clock is None:
        return Diagnosis(
            "a clock",
            f"clock: the slave's is {_show(skew)} the master's, or the timestamps in one of the "
            "stores are; this slave's release does not report its clock. Compare both clocks.",
            far,
            far,
        )
    if abs(apart) > limit:
        part, text = _find_clock(master.clock, slave.clock, others, limit)
        return Diagnosis(part, f"clock: {text}", far, far)
    ours, theirs = master.find_lead() > limit, slave.find_lead() > limit
    if ours and theirs:
        text = f"the timestamps of both are ahead, the slave's by {_seconds(slave.find_lead())}"
        return Diagnosis("both stores", _advise_repair(text, "both nodes"), far, far)
    if ours:
        text = f"the timestamps of the master are {_seconds(master.find_lead())} ahead of its clock"
        return Diagnosis("master's store", _advise_repair(text, "the master"), far, far)
    if theirs:
        text = f"the timestamps of the slave are {_seconds(slave.find_lead())} ahead of its clock"
        # Its other records have right timestamps, and are synced.
        return Diagnosis(
            "slave's store", _advise_repair(text, "this slave"), stops=False, fails=far
        )
    return Diagnosis(
        "a clock",
        f"clock: the clocks agree, but the date that the slave uses is {_show(skew)} the master's: "
        "one of the clocks has jumped. Wait one span; see the warnings in GET /health of both.",
        far,
        far,
    )


def _find_clock(
    master: Milliseconds, slave: Milliseconds, others: Sequence[Milliseconds], limit: Milliseconds
) -> tuple[str, str]:
    """Return which of two clocks that differ is off, by the vote of the others."""
    with_master = sum(abs(other - master) <= limit for other in others)
    with_slave = sum(abs(other - slave) <= limit for other in others)
    if with_master > with_slave:
        text = f"the slave's is {_show(slave - master)} the master's"
        return (
            "slave's clock",
            f"{text}, with which {_count(with_master)} agrees. Correct the slave's.",
        )
    if with_slave > with_master:
        text = f"the master's is {_show(master - slave)} the slave's"
        return (
            "master's clock",
            f"{text}, with which {_count(with_slave)} agrees. Correct the master's.",
        )
    return (
        "a clock",
        f"the slave's is {_show(slave - master)} the master's, and no other slave shows which of "
        "the two is off. Correct the one that is.",
    )


def _advise_repair(text: str, node: str) -> str:
    return (
        f"store: {text}; all clocks agree. Stop {node}, run webhook-sync repair, and start again."
    )


def _count(slaves: int) -> str:
    return f"the clock of {slaves} other slave{'' if slaves == 1 else 's'}"


def _show(skew: Milliseconds) -> str:
    return f"{_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'}"


def _seconds(milliseconds: Milliseconds) -> str:
    return f"{milliseconds / 1000:.1f} s"
