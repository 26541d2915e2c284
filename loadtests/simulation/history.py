"""Histories: a world, a few hundred accidents from one seed, and then calm and a judgement.

Which accidents (:mod:`.events`), and how often, is drawn first (:mod:`.conditions`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from loadtests.simulation.clock_accidents import MOST_AHEAD_MS, ClockEvents
from loadtests.simulation.conditions import SPAN_MS, draw_conditions
from loadtests.simulation.network import NetworkFault
from loadtests.simulation.nodes import CoreParts, Process
from loadtests.simulation.oracle import Violation
from loadtests.simulation.process_store import Accident
from loadtests.simulation.world import World
from portable_core.settings import Role
from portable_core.sync.master import LEASE_MS

#: How many syncs after the last accident may be needed until nothing is left to fetch.
_ROUNDS = 300


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """What a history contained: how often each thing happened."""

    seed: int
    counts: Counter[str]


def run_history(
    seed: int, parts: CoreParts | None = None, theme: str | None = None
) -> HistoryResult:
    """Run one history. Raises :class:`Violation` if a promise was broken.

    ``theme``: one of :data:`.conditions.THEMES`, where it is not to be drawn.
    """
    history = History(seed, parts or CoreParts(), theme)
    history.run()
    return HistoryResult(seed, history.world.oracle.counts)


class History(ClockEvents):
    """One master and 2 to 4 slaves, and what happens to them."""

    def __init__(self, seed: int, parts: CoreParts, theme: str | None = None) -> None:
        random = Random(seed)  # repeatable, not secret
        conditions = draw_conditions(random, theme)
        world = World(random, SPAN_MS, conditions.speaks, conditions.env, parts)
        world.max_held = conditions.max_held
        super().__init__(random, conditions, world)
        for name, (processes, buffered) in conditions.nodes.items():
            role: Role = "master" if name == "master" else "slave"
            world.add_node(name, role, processes=processes, buffered=buffered)
        world.accident = self._pick_accident
        world.pick_fault = self._pick_fault
        world.pause = self._pause
        self._until_pause = conditions.calm

    # -- what can happen ---------------------------------------------------------------------------

    def _pick_accident(self, process: Process, name: str) -> Accident:
        accident = self._conditions.pick_accident(self._random)
        if accident is Accident.NONE:
            return accident
        if accident is Accident.FAIL_LATE and process.store.shared:
            return Accident.FAIL_AFTER  # nothing can appear there after COMMIT_TIMEOUT_S
        if name == "append" and self._random.random() < 0.3:
            # Written, but so slowly that it does not count.
            date = process.clock.now()
            process.clock.sleep(process.node.settings.commit_timeout_ms / 1000 + 1)
            process.clock.set(date)
            return Accident.NONE
        self.world.oracle.counts[accident.name.lower().replace("_", " ")] += 1
        return accident

    def _pick_fault(self, slave: str) -> NetworkFault:
        fault = self._conditions.pick_fault(self._random, slave)
        if fault is None:
            return self._conditions.make_plain_fault(self._random, slave)
        self.world.oracle.counts["faults"] += 1
        return fault

    def _pause(self) -> None:
        """Something happens in the middle of an exchange."""
        self._until_pause -= 1
        if self._depth >= 2 or self._until_pause > 0:
            return
        self._depth += 1
        self._until_pause = self._conditions.calm ** self._random.random()
        try:
            self.world.oracle.counts["in the middle"] += 1
            if self._random.random() < 0.3:
                self.world.advance(self._random.choice((10, 1_000, LEASE_MS + 1_000)))
            self._pick_event()()
        finally:
            self._depth -= 1

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(self._random.randint(20, 120)):
            self._pick_event()()
        self.settle()

    def settle(self) -> None:
        """End all faults, sync every slave to its end, and judge."""
        world = self.world
        self._conditions = replace(self._conditions, accidents=0.0, faults=0.0)
        self._until_pause = math.inf
        if self._random.random() < 0.5:
            self.mend()
        for node in world.nodes.values():
            for process in [process for process in node.processes if not process.store.alive]:
                world.kill(process)
            while len(node.processes) < (2 if node.disk.shared else 1):
                world.start(node, 0)
            for process in node.processes:
                world.set_clock(process, 0)
        self.repair_all()
        self._catch_up()
        for _ in range(_ROUNDS):
            done = self._sync(world.master)
            if done:
                break
            world.advance(1_000)
        else:
            raise Violation("stuck", f"{_ROUNDS} syncs were not enough")
        world.oracle.check_all()

    def _catch_up(self) -> None:
        """Advance time until every sender is done and every clock is at its node's floor."""
        world = self.world
        while True:
            world.flush_all()
            processes = [process for node in world.nodes.values() for process in node.processes]
            latest = max(process.receiver.now() for process in processes)
            latest = max(latest, *(node.disk.last() or 0 for node in world.nodes.values()))
            latest = max(latest, world.master.disk.leased_until)
            if latest <= world.now and not world.deliveries:
                break
            if latest > world.now + MOST_AHEAD_MS:
                raise Violation("clock", f"a node is {latest - world.now} ms ahead for good")
            world.advance(max(latest - world.now, 1_000))
        world.advance(2 * SPAN_MS + LEASE_MS)
