"""The world of a history: true time, nodes that run, die and sync, senders that try again."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from random import Random
from uuid import UUID

from loadtests.simulation.disk import Disk
from loadtests.simulation.network import NetworkFault, SimulatedClient
from loadtests.simulation.nodes import CoreParts, Delivery, Process, SimulatedNode
from loadtests.simulation.oracle import AcknowledgedWebhook, DiskLife, Oracle
from loadtests.simulation.payloads import Payloads
from loadtests.simulation.process_store import Accident, Killed, ProcessStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import SlaveUnreachable, StoreError, Unavailable, WebhookSyncError
from portable_core.ingest.outcome import Outcome
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.reconcile import MAX_HELD
from portable_core.sync.slave import Slave
from portable_core.wire.negotiation import ENCODINGS, read_stream

START = 1_700_000_000_000

_MAX_TRIES = 12


class World:
    """Holds everything that a history moves. Nothing in it depends on real time or chance."""

    def __init__(
        self,
        random: Random,
        span: Milliseconds,
        slaves: Mapping[str, tuple[str, ...]],
        env: Mapping[str, str],
        parts: CoreParts,
    ) -> None:
        """``slaves``: the media types that each understands; ``env``: settings of every node."""
        self.random = random
        self.span = span
        self.now = START
        self.parts = parts
        self.payloads = Payloads(random)
        self.nodes: dict[str, SimulatedNode] = {}
        self._encodings = slaves
        self.accident: Callable[[Process, str], Accident] = lambda process, name: Accident.NONE
        self.pick_fault: Callable[[str], NetworkFault] = lambda slave: NetworkFault()
        self.pause: Callable[[], None] = lambda: None
        self.max_held = MAX_HELD
        self._env = {
            "SYNC_AUTH": "none",
            "STORE": "sqlite:disk",
            "SPAN_S": f"{span / 1000:.3f}",
            **env,
        }
        self._deliveries: list[Delivery] = []
        self._numbers = count()
        self._disks = count(1)
        self.oracle: Oracle

    # -- nodes -------------------------------------------------------------------------------------

    def add_node(
        self, name: str, role: Role, *, processes: int = 1, buffered: bool = False
    ) -> SimulatedNode:
        """A node with processes that run. The master comes first."""
        env = {**self._env, "LINGER_MS": "0"}
        if buffered:
            env |= {"ACK": "buffered", "FLUSH_INTERVAL_S": "10"}
        node = SimulatedNode(
            name,
            role,
            Settings.from_env(role, env),
            self.make_disk(shared=processes > 1),
            buffered=buffered,
        )
        self.nodes[name] = node
        if role == "master":
            self.oracle = Oracle(self.span, node.disk, self.payloads.colliding.__contains__)
        for _ in range(processes):
            self.start(node, 0)
        return node

    def make_disk(self, *, shared: bool, uuid: str = "") -> Disk:
        """Return an empty disk, with a new UUID unless one is given."""
        uuid = uuid or str(UUID(int=next(self._disks)))
        disk = self.parts.disk(uuid, shared=shared, reach=self.span)
        disk.open("crc32c")
        return disk

    def start(self, node: SimulatedNode, offset: Milliseconds) -> Process:
        """Start a process of a node, its clock ``offset`` milliseconds wrong."""
        clock = SimulatedClock(self.now + offset)
        process: Process

        def decide(name: str) -> Accident:
            return self.accident(process, name)

        def observe(records: list[Record]) -> None:
            self.oracle.store(node.disk, records, by_hand=process.handing_over)

        store = self.parts.store(node.disk, decide, observe)
        receiver = self.parts.receiver(node.settings, store, clock)
        process = Process(node, clock, offset, store, receiver)
        if node.role == "slave":
            process.slave = self.parts.slave(receiver, max_held=self.max_held)
        else:
            process.master = self.parts.master(receiver, store, list(self._make_clients()))
        node.processes.append(process)
        return process

    def _make_clients(self) -> Iterator[SimulatedClient]:
        for name, encodings in self._encodings.items():
            yield self.parts.client(
                name,
                lambda name=name: self._find_slave(name),
                pick_fault=lambda name=name: self.pick_fault(name),
                pause=lambda: self.pause(),
                tell=self._tell_horizon,
                count_cut=lambda: self.oracle.counts.update(["cuts"]),
                encodings=encodings,
            )

    def _tell_horizon(self, slave: Slave, generation: int, horizon: Milliseconds) -> None:
        store = slave.receiver.store
        assert isinstance(store, ProcessStore)
        life = DiskLife(store.disk.uuid, generation, store.lineage)
        self.oracle.tell_horizon(life, horizon)

    def _find_slave(self, name: str) -> Slave:
        processes = self.nodes[name].processes
        if not processes:
            raise SlaveUnreachable(f"{name}: no connection")
        slave = self.random.choice(processes).slave
        assert slave is not None  # a slave's processes have one
        return slave

    @property
    def master(self) -> SimulatedNode:
        return self.nodes["master"]

    @property
    def slaves(self) -> list[SimulatedNode]:
        return [self.nodes[name] for name in self._encodings]

    def kill(self, process: Process) -> None:
        """End a process at once; senders that waited for it try again."""
        if process in process.node.processes:
            process.node.processes.remove(process)
            self.oracle.counts["crashes"] += 1
        if process.store.alive:
            process.store.settle_late(written=self.random.random() < 0.5)
        process.store.kill()
        waiting, process.waiting = process.waiting, []
        for future, delivery in waiting:
            if not future.done():
                self._try_again(delivery)
        if process.node.buffered:
            disk = process.node.disk
            self.oracle.forgive_uncommitted(disk.uuid, disk.holds)

    def bury(self, killed: Killed) -> None:
        """Do the same for a process that found itself dead."""
        for node in self.nodes.values():
            for process in list(node.processes):
                if process.store is killed.store:
                    self.kill(process)

    def set_clock(self, process: Process, offset: Milliseconds) -> None:
        process.offset = offset
        process.clock.set(self.now + offset)

    # -- time and webhooks -------------------------------------------------------------------------

    def advance(self, milliseconds: Milliseconds) -> None:
        """Advance time; webhooks due meanwhile arrive at their time."""
        end = self.now + milliseconds
        while self._deliveries and self._deliveries[0].at <= end:
            delivery = heapq.heappop(self._deliveries)
            self._move_to(max(delivery.at, self.now))
            self.deliver(delivery)
        self._move_to(max(end, self.now))

    def _move_to(self, moment: Milliseconds) -> None:
        passed, self.now = moment - self.now, moment
        for node in self.nodes.values():
            for process in node.processes:
                process.clock.sleep(passed / 1000)

    def send(self, node: str, payload: bytes, meta: Meta, at: Milliseconds) -> None:
        """Schedule the arrival of a webhook at a node."""
        self.oracle.send(payload, meta)
        delivery = Delivery(at, next(self._numbers), node, payload, meta)
        heapq.heappush(self._deliveries, delivery)

    def _try_again(self, delivery: Delivery) -> None:
        delivery.tries += 1
        if delivery.tries <= _MAX_TRIES:
            delivery.at = self.now + self.random.randrange(10, self.span // 2)
            heapq.heappush(self._deliveries, delivery)

    @property
    def deliveries(self) -> int:
        """Tries that are still to come."""
        return len(self._deliveries)

    def deliver(self, delivery: Delivery) -> None:
        """Try once: a process accepts the webhook, or not. The next flush commits it."""
        node = self.nodes[delivery.node]
        if not node.processes:
            self._try_again(delivery)
            return
        process = self.random.choice(node.processes)
        try:
            if node.buffered:
                buffer = process.receiver.open()
                identifier = process.receiver.identifier
                hash_, meta = identifier.identify(delivery.payload, delivery.meta)
                pair = buffer.add(hash_, delivery.payload, meta)
                self._acknowledge(node, pair, delivery)
            else:
                future = process.receiver.submit(delivery.payload, delivery.meta)
                process.waiting.append((future, delivery))
                future.add_done_callback(partial(self._answer, node, delivery))
        except Killed as killed:
            self.bury(killed)
            self._try_again(delivery)
        except Unavailable:
            self._try_again(delivery)

    def deliver_to(self, process: Process, payload: bytes, meta: Meta) -> None:
        """Bring a webhook to a process whose sender does not try again."""
        delivery = Delivery(self.now, next(self._numbers), process.node.name, payload, meta)
        delivery.tries = _MAX_TRIES
        try:
            future = process.receiver.submit(payload, meta)
        except (Killed, Unavailable):
            return
        process.waiting.append((future, delivery))
        future.add_done_callback(partial(self._answer, process.node, delivery))

    def flush(self, process: Process) -> None:
        """Commit what waits."""
        try:
            process.receiver.flush()
        except Killed as killed:
            self.bury(killed)
            return
        except StoreError:
            pass
        process.waiting = [waiter for waiter in process.waiting if not waiter[0].done()]

    def _answer(self, node: SimulatedNode, delivery: Delivery, future: Outcome[Pair]) -> None:
        if future.exception() is None:
            self._acknowledge(node, future.result(), delivery)
        else:
            self._try_again(delivery)

    def _acknowledge(self, node: SimulatedNode, pair: Pair, delivery: Delivery) -> None:
        payload, meta = delivery.payload, delivery.meta
        self.oracle.acknowledge(
            AcknowledgedWebhook(node.name, node.disk.uuid, pair, payload, meta, self.now)
        )

    def flush_all(self) -> None:
        for node in self.nodes.values():
            for process in list(node.processes):
                self.flush(process)

    # -- syncs -------------------------------------------------------------------------------------

    def sync(self, process: Process, only: str | None = None) -> bool:
        """Sync a master. Return whether every slave was synced without an error."""
        master = process.master
        assert master is not None  # only masters sync
        nested, process.syncing = process.syncing, True
        try:
            report = master.sync(only)
        except Killed as killed:
            self.bury(killed)
            return False
        except WebhookSyncError:
            return False  # the lease is another's, or the disk failed
        finally:
            process.syncing = nested
        self.oracle.counts["parts"] += sum(slave.parts for slave in report.slaves)
        return report.ok and not any(slave.behind_ms for slave in report.slaves)

    def hand_over(self, node: SimulatedNode, master: Process, cut: int) -> bool:
        """Send a slave's records to the master, of which ``cut`` bytes get through, and lose it.

        Returns whether the master has confirmed it.
        """
        confirmed = False
        for process in list(node.processes):
            self.flush(process)
        if node.processes:
            confirmed = self._take_over(node.processes[0], master, cut)
        self.replace_disk(node)
        return confirmed

    def _take_over(self, slave: Process, master: Process, cut: int) -> bool:
        if slave.slave is None or master.master is None or slave.waiting:
            return False
        encoding = ENCODINGS[self.random.choice(tuple(ENCODINGS))]
        master.handing_over = True
        try:
            sent = b"".join(encoding.encode_records(slave.slave.hand_over()))
            records = read_stream(encoding.read_records(), [sent[:cut]])
            master.master.accept(slave.node.name, records)
        except Killed as killed:
            self.bury(killed)
            return False
        except WebhookSyncError:
            return False
        finally:
            master.handing_over = False
        self.oracle.confirm(slave.node.disk)
        return True

    def replace_disk(self, node: SimulatedNode) -> None:
        """Replace a node's disk by an empty one."""
        for process in list(node.processes):
            self.kill(process)
        self.oracle.forgive(node.disk.uuid, node.disk.pairs(0, MAX_INTEGER))
        node.disk = self.make_disk(shared=node.disk.shared)

    def check_cursors(self) -> None:
        self.oracle.check_cursors((node.name, node.disk) for node in self.slaves)
