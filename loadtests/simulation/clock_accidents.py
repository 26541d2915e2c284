"""Clocks that are wrong for a moment or at a start, crashes meanwhile, and repairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from loadtests.simulation.accidents import Events
from loadtests.simulation.conditions import SPAN_MS
from loadtests.simulation.disk import Disk
from loadtests.simulation.nodes import Process, SimulatedNode
from loadtests.simulation.oracle import Violation
from loadtests.simulation.payloads import make_meta
from loadtests.simulation.process_store import Killed
from portable_core.errors import LeaseHeld, WebhookSyncError
from portable_core.ingest.plausible_clock import find_limit
from portable_core.ingest.receiver import HORIZON_MARK
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.master import LEASE_MS
from portable_core.sync.repair import Repair

_HOUR_MS = 3_600_000
_YEAR_MS = 365 * 24 * _HOUR_MS

#: How far ahead a clock that was wrong once may leave a node: as far as a clock that was wrong for
#: long (``jump_clock``). A year is more.
MOST_AHEAD_MS = 2 * _HOUR_MS

_LIMIT_MS = find_limit(SPAN_MS)

#: How far one sender of equal webhooks may push timestamps ahead.
_MOST_PUSHED_MS = 60


class _Interrupted(Exception):
    pass


class _MortalDisk:
    """A disk whose user dies at one of its writes."""

    def __init__(self, disk: Disk, writes: int) -> None:
        self._disk = disk
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._disk, name)
        if name not in ("append", "set_mark", "begin_generation", "remove_after", "save_slave"):
            return method

        def write(*args: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise _Interrupted
            return method(*args)

        return write


class ClockEvents(Events):
    """The methods without an underscore are events, as those of :class:`Events`."""

    def glitch_clock(self) -> None:
        """A clock is far ahead for less than a second, and is read meanwhile."""
        process = self._pick_single()
        if process is None or not self._try(process, process.receiver.now):
            return
        if process.receiver.clock._other is not None:
            return  # it has just been set: the date before it is as plausible
        before, offset = self._find_lead(process), process.offset
        wrong = offset + self._random.choice((SPAN_MS, _HOUR_MS, _YEAR_MS))
        if self._is_confirmed(process, wrong):
            return
        self.world.oracle.counts["glitches"] += 1
        self.world.set_clock(process, wrong)
        pause, self.world.pause = self.world.pause, lambda: None  # it is over within a second
        for _ in range(self._random.randint(1, 3)):
            self._use(process)
            self.world.advance(self._random.randrange(300))
        self.world.pause = pause
        if process not in process.node.processes:
            return  # another one may have started under the wrong clock
        self.world.set_clock(process, offset)
        lead = self._find_lead(process)
        if lead > max(before, _LIMIT_MS):
            raise Violation("clock", f"{process.node.name} is {lead} ms ahead after a moment")

    def _is_confirmed(self, process: Process, offset: Milliseconds) -> bool:
        """Return whether the clock of another process is as wrong as this."""
        others = (other for node in self.world.nodes.values() for other in node.processes)
        return any(
            other is not process and abs(other.offset - offset) <= _LIMIT_MS for other in others
        )

    def _use(self, process: Process) -> None:
        """Read the clock as a request for the status, a sync, or a webhook does."""
        uses: list[Callable[[], object]] = [
            process.receiver.status,
            process.receiver.horizon,
            lambda: self._send_to(process.node, 1),
        ]
        if process.slave is not None:
            uses.append(process.slave.describe)
        elif self._depth == 0:
            uses.append(lambda: self.world.sync(process))
        self._try(process, self._random.choice(uses))

    def repeat_one(self) -> None:
        """One sender brings the same webhook four times a millisecond."""
        process = self._pick_single()
        if process is None or not self._try(process, process.receiver.now):
            return
        before = self._find_lead(process)
        world, payload, meta = self.world, self.world.payloads.repeat(), make_meta(self._random)
        for number in range(400):
            world.send(process.node.name, payload, meta, world.now + number // 4)
        world.advance(100)
        if process not in process.node.processes:
            return
        lead = self._find_lead(process)
        world.oracle.counts["repeats"] += 1
        if lead > max(before, _MOST_PUSHED_MS):
            raise Violation("clock", f"repeats pushed {process.node.name} {lead} ms ahead")

    def start_wrong(self) -> None:
        """A process starts under a clock that is far ahead, and dies before that is corrected."""
        process = self._pick_single()
        if process is None or process.syncing:
            return
        node = process.node
        self.world.kill(process)
        far = self._random.choice((SPAN_MS, _HOUR_MS, _YEAR_MS))
        wrong = self.world.start(node, far)
        self.world.oracle.counts["wrong starts"] += 1
        self._send_to(node, self._random.randrange(4))
        self._use(wrong)
        if wrong.store.alive and wrong.master is not None and self._random.random() < 0.5:
            now = wrong.clock.now()
            self._try(wrong, lambda: wrong.store.acquire_lease("dead", now, LEASE_MS))
        self.world.flush(wrong)
        if wrong in node.processes:
            self.world.kill(wrong)
        self.world.start(node, 0)
        if self._random.random() < 0.6:
            self._repair(node)

    def repair(self) -> None:
        """An operator stops a node and repairs its store."""
        process = self._pick_single()
        if process is not None and not process.syncing:
            self._repair(process.node)

    def repair_all(self) -> None:
        """Repair every store that is ahead, as operators do in the end."""
        for node in self.world.nodes.values():
            newest = max(node.disk.last() or 0, node.disk.mark(HORIZON_MARK))
            interrupted = node.disk.marks("repair-")
            if not node.disk.shared and (newest > self.world.now + _LIMIT_MS or interrupted):
                self._repair(node, certain=True)

    def _repair(self, node: SimulatedNode, *, certain: bool = False) -> None:
        """Repair the store of a node; unless it is ``certain``, the repair may be interrupted."""
        world, disk = self.world, node.disk
        for process in list(node.processes):
            world.kill(process)
        before, horizon = disk.all_records(), disk.mark(HORIZON_MARK)
        disk.end_lease()  # as when the store is opened
        writes = MAX_INTEGER if certain else self._random.choice((MAX_INTEGER, 2, 4, 6, 8, 10))
        try:
            mortal: Any = _MortalDisk(disk, writes)
            Repair(mortal, world.now, SPAN_MS).run()
        except _Interrupted:
            Repair(disk, world.now, SPAN_MS).run()
        except LeaseHeld as error:
            raise Violation("lease", f"that of a dead process keeps {node.name} out") from error
        moved = _find_moved(before, disk.all_records())
        world.oracle.move(disk, moved, horizon)
        world.oracle.counts["repaired"] += bool(moved)
        world.start(node, 0)

    # -- what they need ------------------------------------------------------------------------

    def _pick_single(self) -> Process | None:
        """Pick the process of a node that has one."""
        processes = [
            process
            for node in self.world.nodes.values()
            if not node.disk.shared
            for process in node.processes
        ]
        return self._random.choice(processes) if processes else None

    def _find_lead(self, process: Process) -> Milliseconds:
        try:
            return process.receiver.now() - process.clock.now()
        except (Killed, WebhookSyncError):
            return 0

    def _try(self, process: Process, use: Callable[[], object]) -> bool:
        """Do something with a process, which may die of it or fail; return whether it did not."""
        try:
            use()
        except Killed as killed:
            self.world.bury(killed)
            return False
        except WebhookSyncError:
            return False
        return True

    def _send_to(self, node: SimulatedNode, count: int) -> None:
        """Bring new webhooks to one node at once."""
        for _ in range(count):
            payload = self.world.payloads.make_new()
            self.world.send(node.name, payload, make_meta(self._random), self.world.now)
        self.world.advance(1)


def _find_moved(before: list[Record], after: list[Record]) -> dict[Pair, Pair]:
    """Return the new pair of each record that was moved; their order is kept."""
    old = _by_hash({record.pair for record in before} - {record.pair for record in after})
    new = _by_hash({record.pair for record in after} - {record.pair for record in before})
    moved: dict[Pair, Pair] = {}
    for hash_, pairs in old.items():
        if len(pairs) != len(new.get(hash_, [])):
            raise Violation("repair", f"{pairs} became {new.get(hash_)}")
        moved.update(zip(pairs, new[hash_], strict=True))
    return moved


def _by_hash(pairs: set[Pair]) -> dict[int, list[Pair]]:
    found: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs):
        found[pair.hash].append(pair)
    return found
