"""Histories: a world, a few hundred accidents from one seed, and then calm and a judgement.

Which accidents, and how often, is drawn first (:mod:`.conditions`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from portable_core.master import LEASE_MS
from portable_core.ports import Milliseconds
from portable_core.settings import Role
from portable_core.simulation.conditions import SPAN_MS, draw_conditions
from portable_core.simulation.disk import Disk, Image
from portable_core.simulation.network import NEVER, Fault
from portable_core.simulation.nodes import Node, Parts, Process
from portable_core.simulation.oracle import Violation
from portable_core.simulation.payloads import make_meta
from portable_core.simulation.process_store import Accident, Killed
from portable_core.simulation.world import World

#: How many syncs after the last accident may be needed until nothing is left to fetch.
_ROUNDS = 300

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a history contained: how often each thing happened."""

    seed: int
    counts: Counter[str]


def run_history(seed: int, parts: Parts | None = None, theme: str | None = None) -> Result:
    """Run one history. Raises :class:`Violation` if a promise was broken.

    ``theme``: one of :data:`.conditions.THEMES`, where it is not to be drawn.
    """
    history = History(seed, parts or Parts(), theme)
    history.run()
    return Result(seed, history.world.oracle.counts)


class History:
    """One master and 2 to 4 slaves, and what happens to them."""

    def __init__(self, seed: int, parts: Parts, theme: str | None = None) -> None:
        self._random = random = Random(seed)  # noqa: S311  # repeatable, not secret
        self._depth = 0
        self._images: list[tuple[Node, Image]] = []
        self._conditions = conditions = draw_conditions(random, theme)
        self.world = world = World(random, SPAN_MS, conditions.speaks, conditions.env, parts)
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
            return Accident.FAIL_AFTER  # nothing can appear there after SETTLE_S
        if name == "append" and self._random.random() < 0.3:
            # Written, but so slowly that it does not count.
            date = process.clock.now()
            process.clock.sleep(process.node.settings.settle_ms / 1000 + 1)
            process.clock.set(date)
            return Accident.NONE
        self.world.oracle.counts[accident.name.lower().replace("_", " ")] += 1
        return accident

    def _pick_fault(self, slave: str) -> Fault:
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

    def _pick_event(self) -> Callable[[], None]:
        weights = self._conditions.weights
        event: Callable[[], None] = getattr(
            self, self._random.choices(list(weights), list(weights.values()))[0]
        )
        return event

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(self._random.randint(20, 120)):
            self._pick_event()()
        self.settle()

    def settle(self) -> None:
        """Let calm return, let every slave be synced to its end, and judge."""
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
        """Let time pass until every sender is done and every clock is at its node's floor."""
        world = self.world
        while True:
            world.flush_all()
            processes = [process for node in world.nodes.values() for process in node.processes]
            latest = max(process.receiver.now() for process in processes)
            latest = max(latest, *(node.disk.last() or 0 for node in world.nodes.values()))
            latest = max(latest, world.master.disk.leased_until)
            if latest <= world.now and not world.deliveries:
                break
            world.advance(max(latest - world.now, 1_000))
        world.advance(2 * SPAN_MS + LEASE_MS)

    def _sync(self, node: Node) -> bool:
        if not node.processes:
            return False
        self.world.oracle.counts["syncs"] += 1
        only = self._random.choice([None, None, *(slave.name for slave in self.world.slaves)])
        done = self.world.sync(self._random.choice(node.processes), only)
        self.world.check_cursors()
        return done and only is None

    # -- events ------------------------------------------------------------------------------------

    def send(self) -> None:
        """Senders bring some webhooks to some of the nodes, not at the same moment."""
        world, random = self.world, self._random
        slaves = [slave.name for slave in world.slaves]
        for _ in range(random.choice((1, 1, 3, 12))):
            kind = random.random()
            if kind < self._conditions.forgeries:
                payload = world.payloads.forge()
            elif kind < self._conditions.forgeries + 0.2:
                payload = world.payloads.repeat()
            else:
                payload = world.payloads.make_new()
            meta = make_meta(random)
            reached = random.random() < self._conditions.reach_master
            nodes = ["master", *slaves] if reached else slaves
            for node in random.sample(nodes, random.randint(1, len(nodes))):
                world.send(
                    node,
                    payload,
                    meta,
                    world.now + random.randint(0, self._conditions.longest_delay),
                )

    def wait(self) -> None:
        self.world.advance(int(10 ** self._random.uniform(0, math.log10(3 * SPAN_MS))))

    def flush(self) -> None:
        if self._random.random() < 0.3:
            self.world.flush_all()
        elif (process := self._pick_process()) is not None:
            self.world.flush(process)

    def sync(self) -> None:
        self._sync(self.world.master)

    def restart(self) -> None:
        """A process dies and comes back, with its clock set anew."""
        process = self._pick_process()
        if process is not None:
            if self._random.random() < 0.3:
                self.world.flush(process)
            node, offset = process.node, process.offset
            self.world.kill(process)
            if not node.disk.shared and self._random.random() < 0.5:
                offset = self._pick_offset()
            self.world.start(node, offset)

    def resolve_doubt(self) -> None:
        """What a failed write has left in doubt is written after all, or never will be."""
        process = self._pick_process()
        if process is not None:
            process.store.settle_late(written=self._random.random() < 0.7)

    def stop_for_long(self) -> None:
        """A node is gone for a while, or comes back."""
        node = self._pick_node()
        if node.processes:
            for process in list(node.processes):
                self.world.kill(process)
        else:
            self.world.start(node, 0)

    def step_clock(self) -> None:
        """A node's clock is set, to something that is at most a quarter of the span wrong."""
        self._set_clocks(self._pick_node(), self._pick_offset())

    def jump_clock(self) -> None:
        """A node's clock is set to something quite wrong, or right again."""
        node = self._pick_node()
        far = self._random.choice((SPAN_MS, 3 * SPAN_MS, _HOUR_MS))
        self._set_clocks(node, self._random.choice((0, 0, far, -far)))

    def _pick_offset(self) -> Milliseconds:
        return self._random.randint(-SPAN_MS // 8, SPAN_MS // 8)

    def _set_clocks(self, node: Node, offset: Milliseconds) -> None:
        for process in list(node.processes):
            self.world.flush(process)
        for process in node.processes:
            self.world.set_clock(process, offset)

    def damage(self) -> None:
        """A stretch of a slave's records cannot be read any more."""
        node = self._random.choice(self.world.slaves)
        stretch = self._pick_stretch(node.disk)
        if stretch is not None:
            self.world.oracle.counts["damaged"] += 1
            lost = node.disk.damage(*stretch)
            self.world.oracle.forgive(node.disk.uuid, [record.pair for record in lost])

    def mend(self) -> None:
        """What was damaged anywhere can be read again."""
        oracle = self.world.oracle
        for node in self.world.nodes.values():
            if any(process.syncing for process in node.processes):
                continue  # what comes back in the middle of a sync meets what it just fetched
            back = node.disk.mend()
            if node is self.world.master:
                oracle.regain_master(back)
            oracle.unforgive(node.disk.uuid, [record.pair for record in back])

    def damage_master(self) -> None:
        stretch = self._pick_stretch(self.world.master.disk)
        if stretch is not None:
            self.world.oracle.counts["master damaged"] += 1
            self.world.oracle.lose_master(self.world.master.disk.damage(*stretch))
            disks = {node.disk.uuid: node.disk for node in self.world.nodes.values()}
            self.world.oracle.forgive_unreadable(
                lambda uuid, pair: uuid in disks and disks[uuid].holds(pair)
            )

    def _pick_stretch(self, disk: Disk) -> tuple[Milliseconds, Milliseconds] | None:
        records = disk.all_records()
        if not records:
            return None
        start = self._random.choice(records).pair.timestamp
        return start, start + self._random.randrange(1, 2 * SPAN_MS)

    def lose_disk(self) -> None:
        """A slave begins again with an empty disk."""
        node = self._random.choice(self.world.slaves)
        self.world.oracle.counts["disks lost"] += 1
        self.world.replace_disk(node)
        self.world.start(node, 0)

    def copy(self) -> None:
        node = self._random.choice(self.world.slaves)
        self._images.append((node, node.disk.copy()))

    def restore(self) -> None:
        """A slave's disk becomes what it was when it was copied."""
        if not self._images:
            return
        node, image = self._random.choice(self._images)
        oracle, uuid = self.world.oracle, node.disk.uuid
        if node.disk.uuid != image.uuid:
            return
        oracle.counts["disks restored"] += 1
        for process in list(node.processes):
            self.world.kill(process)
        gone = node.disk.restore(image)
        oracle.forgive(uuid, [record.pair for record in gone])
        oracle.unforgive(uuid, [record.pair for record in image.records])
        self.world.start(node, 0)

    def corrupt(self) -> None:
        """A record on a slave's disk has other bytes than it came with."""
        node = self._random.choice(self.world.slaves)
        records = node.disk.all_records()
        if records:
            record = self._random.choice(records)
            node.disk.corrupt(record.pair, b'{"corrupted":%d}' % record.pair.hash)
            self.world.oracle.corrupted.add((node.disk.uuid, record.pair))

    def retain(self) -> None:
        """A slave removes what it believes that it may."""
        node = self._random.choice(self.world.slaves)
        if node.processes:
            process, disk = self._random.choice(node.processes), node.disk
            assert process.slave is not None  # noqa: S101  # a slave's processes have one
            before = disk.all_records()
            try:
                process.slave.retain(now=True)
            except Killed as killed:
                self.world.bury(killed)
            gone = [record.pair for record in before if not disk.holds(record.pair)]
            self.world.oracle.remove(disk.uuid, gone)
            self.world.oracle.counts["retained"] += len(gone)

    def hand_over(self) -> None:
        """A slave whose disk dies with it hands over what it has, and begins again."""
        node = self._random.choice(self.world.slaves)
        # A process that is in the middle of a sync makes a slave wait, in real time.
        masters = [p for p in self.world.master.processes if self._depth == 0 or not p.syncing]
        if masters:
            cut = NEVER if self._random.random() < 0.7 else self._random.randrange(2000)
            if self.world.hand_over(node, self._random.choice(masters), cut):
                self.world.oracle.counts["disks handed over"] += 1
            self.world.start(node, 0)

    def _pick_node(self) -> Node:
        return self._random.choice(list(self.world.nodes.values()))

    def _pick_process(self) -> Process | None:
        processes = self._pick_node().processes
        return self._random.choice(processes) if processes else None
