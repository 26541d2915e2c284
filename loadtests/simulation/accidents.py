"""What can happen to a world: its webhooks, syncs and accidents, each as one event."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

from loadtests.simulation.conditions import SPAN_MS, Conditions
from loadtests.simulation.disk import Disk, Image
from loadtests.simulation.network import NEVER
from loadtests.simulation.nodes import Process, SimulatedNode
from loadtests.simulation.payloads import make_meta
from loadtests.simulation.process_store import Killed
from loadtests.simulation.world import World
from portable_core.ports import Milliseconds, SlaveState
from portable_core.records import MAX_INTEGER, Pair

_HOUR_MS = 3_600_000


class Events:
    """The methods without an underscore are the events; ``conditions`` says how likely each is."""

    def __init__(self, random: Random, conditions: Conditions, world: World) -> None:
        self.world = world
        self._random = random
        self._conditions = conditions
        #: How many events are under way, each in the middle of an exchange of the one before.
        self._depth = 0
        self._images: list[tuple[SimulatedNode, Image]] = []
        self._master_image: Image | None = None
        #: By slave, what was lost with a disk that a sync has to find restored.
        self._unnamed: dict[str, list[Pair]] = {}

    def _pick_event(self) -> Callable[[], None]:
        weights = self._conditions.weights
        event: Callable[[], None] = getattr(
            self, self._random.choices(list(weights), list(weights.values()))[0]
        )
        return event

    def _sync(self, node: SimulatedNode) -> bool:
        if not node.processes:
            return False
        self.world.oracle.counts["syncs"] += 1
        only = self._random.choice([None, None, *(slave.name for slave in self.world.slaves)])
        done = self.world.sync(self._random.choice(node.processes), only)
        self.world.check_cursors()
        self._check_losses()
        return done and only is None

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

    def _set_clocks(self, node: SimulatedNode, offset: Milliseconds) -> None:
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
            self._forgive_unreadable()

    def _forgive_unreadable(self) -> None:
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
        self._unnamed.pop(node.name, None)
        self.world.replace_disk(node)
        self.world.start(node, 0)

    def copy(self) -> None:
        node = self._random.choice(self.world.slaves)
        self._images.append((node, node.disk.copy()))

    def restore(self) -> None:
        """A slave's disk becomes what it was when it was copied.

        If it is copied before that, the two are clones of one parent, which may take turns.
        """
        if not self._images:
            return
        node, image = self._random.choice(self._images)
        oracle, uuid = self.world.oracle, node.disk.uuid
        if node.disk.uuid != image.uuid:
            return
        oracle.counts["disks restored"] += 1
        for process in list(node.processes):
            self.world.kill(process)
        if self._random.random() < 0.5:
            oracle.counts["disks cloned"] += 1
            self._images.append((node, node.disk.copy()))
        gone = node.disk.restore(image)
        oracle.forgive(uuid, [record.pair for record in gone])
        oracle.unforgive(uuid, [record.pair for record in image.records])
        self._expect_losses(node, [record.pair for record in gone])
        self.world.start(node, 0)

    def _expect_losses(self, node: SimulatedNode, gone: list[Pair]) -> None:
        """Remember which webhooks the next sync has to name.

        Not those that no report followed, and not those before the cursor: the master has never
        seen the clone that received them.
        """
        self._unnamed.pop(node.name, None)
        master, latest = self.world.master, self.world.now + SPAN_MS // 2
        state = master.disk.slave_states().get(node.name, SlaveState())
        if state.stint is None or any(process.syncing for process in master.processes):
            return
        if state.store == node.disk.uuid and not node.disk.has_reported(*state.stint):
            lost = self.world.oracle.list_lost(node.disk.uuid, gone)
            first = state.cursor or 0
            self._unnamed[node.name] = [pair for pair in lost if first <= pair.timestamp < latest]

    def _check_losses(self) -> None:
        """After a sync that has noticed a restored disk, what it lost is named."""
        states = self.world.master.disk.slave_states()
        for name in list(self._unnamed):
            state, disk = states.get(name, SlaveState()), self.world.nodes[name].disk
            if state.stint is not None and disk.has_reported(*state.stint):
                lost = self.world.oracle.list_lost(disk.uuid, self._unnamed.pop(name))
                self.world.oracle.counts["named"] += len(lost)
                self.world.oracle.check_named(lost, state.losses)

    def clone(self) -> None:
        """A copy of a slave's disk receives webhooks by itself, beside the original.

        It can take the place of the slave's disk later.
        """
        world, random = self.world, self._random
        node = random.choice(world.slaves)
        if node.disk.shared:
            return
        world.oracle.counts["clones"] += 1
        world.advance(1)
        disk = world.make_disk(shared=False, uuid=node.disk.uuid)
        disk.restore(node.disk.copy())
        settings = replace(node.settings, ack="committed")
        clone = SimulatedNode(node.name, node.role, settings, disk)
        process = world.start(clone, 0)
        before = set(disk.pairs(0, MAX_INTEGER))
        for _ in range(random.choice((1, 3))):
            payload, meta = world.payloads.make_new(), make_meta(random)
            world.oracle.send(payload, meta)
            world.deliver_to(process, payload, meta)
        world.flush(process)
        world.kill(process)
        self._images.append((node, disk.copy()))
        world.oracle.forgive(disk.uuid, set(disk.pairs(0, MAX_INTEGER)) - before)
        world.advance(1)

    def copy_master(self) -> None:
        self._master_image = self.world.master.disk.copy()

    def restore_master(self) -> None:
        """The master's disk becomes what it was when it was copied."""
        image, master, oracle = self._master_image, self.world.master, self.world.oracle
        if image is None or any(process.syncing for process in master.processes):
            return
        oracle.counts["masters restored"] += 1
        self._unnamed.clear()
        for process in list(master.processes):
            self.world.kill(process)
        before = {record.pair for record in master.disk.all_records()}
        oracle.lose_master(master.disk.restore(image))
        oracle.regain_master(r for r in image.records if r.pair not in before)
        self._forgive_unreadable()
        self.world.start(master, 0)

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
            assert process.slave is not None  # a slave's processes have one
            before = disk.all_records()
            try:
                process.slave.retain(now=True)
            except Killed as killed:
                self.world.bury(killed)
            gone = [record.pair for record in before if not disk.holds(record.pair)]
            self.world.oracle.remove(disk.uuid, gone)
            self.world.oracle.counts["retained"] += len(gone)

    def hand_over(self) -> None:
        """A slave whose disk is lost with it hands over its records, and begins again."""
        node = self._random.choice(self.world.slaves)
        # A process that is in the middle of a sync makes a slave wait, in real time.
        masters = [p for p in self.world.master.processes if self._depth == 0 or not p.syncing]
        if masters:
            self._unnamed.pop(node.name, None)
            cut = NEVER if self._random.random() < 0.7 else self._random.randrange(2000)
            if self.world.hand_over(node, self._random.choice(masters), cut):
                self.world.oracle.counts["disks handed over"] += 1
            self.world.start(node, 0)

    def _pick_node(self) -> SimulatedNode:
        return self._random.choice(list(self.world.nodes.values()))

    def _pick_process(self) -> Process | None:
        processes = self._pick_node().processes
        return self._random.choice(processes) if processes else None
