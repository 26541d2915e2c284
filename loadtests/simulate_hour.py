"""``make simulate-hour``: an hour at 1,000 webhooks a second, with outages, in a few minutes.

The core is real (receivers, buffers, slaves, master, sync sessions, wire format); time and network
are simulated. A master and two slaves get every webhook, each up to five seconds after it was due;
nodes die and come back, are away for minutes, have wrong clocks; answers of syncs are cut or never
come.

Scaled down: payloads are tiny (a number), batches are committed every 100 simulated milliseconds
and stores are in memory. To bound the memory, what every cursor and a span have passed is judged
and then taken out of the stores, as retention would. Nothing else is scaled: 3.6 million webhooks.

Judge every single webhook: if any node acknowledged it, it is in the master, and only once.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from loadtests.simulation.network import NetworkFault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import SlaveUnreachable, Unavailable
from portable_core.ingest.outcome import Outcome
from portable_core.ingest.receiver import Receiver
from portable_core.payload_hash.algorithms import ALGORITHMS
from portable_core.ports import SlaveState
from portable_core.records import MAX_INTEGER, Meta, Pair
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave

START_MS = 1_700_000_000_000
SPAN_MS = 120_000
TICK_MS = 100
SYNC_EVERY_MS = 300_000

#: The longest that a webhook takes to a node; each takes its own time to each of them.
LATEST_MS = 5_000
NODES = ("master", "slave-1", "slave-2")

_META = Meta()


@dataclass(slots=True)
class HourNode:
    """One store, and the process on it: None while the node is away."""

    name: str
    settings: Settings
    bit: int
    offset: int
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(START_MS))
    receiver: Receiver | None = None
    slave: Slave | None = None
    master: Master | None = None
    waiting: list[tuple[int, Outcome[Pair]]] = field(default_factory=list)
    #: The numbers of webhooks on their way, by the tick in which they arrive; used in turns.
    arriving: list[list[int]] = field(
        default_factory=lambda: [[] for _ in range(LATEST_MS // TICK_MS + 1)]
    )


class Hour:
    """``rate`` webhooks a second for ``seconds``. A seed, a history."""

    def __init__(self, seed: int, rate: int, seconds: int, algorithm: str) -> None:
        self._random = Random(f"hour {seed}")
        self._per_tick = rate * TICK_MS // 1000
        self._ticks = seconds * 1000 // TICK_MS
        count = self._per_tick * self._ticks
        self._now = START_MS
        #: By number: a bit for each node that acknowledged it; copies that the master has.
        self._acknowledged = bytearray(count)
        self._copies = bytearray(count)
        self._judged = 0
        self.counts: Counter[str] = Counter()
        self.events: list[str] = []
        env = {"SYNC_AUTH": "none", "STORE": "memory:", "LINGER_MS": "0", "HASH": algorithm}
        if ALGORITHMS[algorithm].keyed:
            env["HASH_KEY"] = "simulated"
        self.nodes = {
            name: HourNode(name, self._make_settings(name, env), 1 << bit, offset)
            for bit, (name, offset) in enumerate(
                zip(
                    NODES,
                    (0, *(self._random.randint(-9_000, 9_000) for _ in NODES[1:])),
                    strict=True,
                )
            )
        }
        for node in self.nodes.values():
            node.clock.set(START_MS + node.offset)
            self._start(node)
        self._plan = self._make_plan(seconds)
        self._faults: list[NetworkFault] = []

    @staticmethod
    def _make_settings(name: str, env: dict[str, str]) -> Settings:
        role: Role = "master" if name == "master" else "slave"
        return Settings.from_env(role, env)

    def _make_plan(self, seconds: int) -> list[tuple[int, str, str]]:
        """Moments (ms), nodes and what happens: away for long, a kill, once both slaves at once."""
        random, plan = self._random, []

        def away(name: str, begin: float, lasts: float) -> None:
            plan.append((int(begin * 1000), name, "goes away"))
            plan.append((int((begin + lasts) * 1000), name, "comes back"))

        away("master", seconds * 0.10, seconds * 0.12)
        away("slave-1", seconds * 0.30, seconds * 0.15)
        away("slave-2", seconds * 0.40, seconds * 0.10)  # for a while only the master is there
        away("master", seconds * 0.60, seconds * 0.05)
        away("slave-2", seconds * 0.62, seconds * 0.08)  # for a while only slave-1 is there
        for name in NODES:
            for _ in range(6):
                at = random.uniform(0, seconds)
                plan.append((int(at * 1000), name, "is killed"))
        return sorted(plan)

    # -- nodes -------------------------------------------------------------------------------------

    def _start(self, node: HourNode) -> None:
        node.receiver = Receiver(node.settings, node.store, node.clock)
        if node.name != "master":
            node.slave = Slave(node.receiver)
            return
        clients = [
            SimulatedClient(
                name,
                lambda name=name: self._find_slave(name),  # type: ignore[misc]  # mypy: no type for the default
                pick_fault=self._pick_fault,
            )
            for name in NODES[1:]
        ]
        node.master = Master(node.receiver, node.store, clients)

    def _find_slave(self, name: str) -> Slave:
        slave = self.nodes[name].slave
        if slave is None:
            raise SlaveUnreachable(f"{name}: no connection")
        return slave

    def _stop(self, node: HourNode) -> None:
        """Kill the process: uncommitted webhooks are lost, and no sender got 200 for them."""
        self.counts["lost unacknowledged in kills"] += len(node.waiting)
        node.waiting.clear()
        node.receiver = node.slave = node.master = None

    def _pick_fault(self) -> NetworkFault:
        if self._random.random() >= 0.25:
            return NetworkFault()
        self.counts["network faults"] += 1
        if self._random.random() < 0.3:
            return NetworkFault(unreachable=True)
        return NetworkFault(answer_cut=int(10 ** self._random.uniform(1, 6.5)))

    # -- the hour ----------------------------------------------------------------------------------

    def run(self) -> None:
        next_sync = START_MS + SYNC_EVERY_MS
        for tick in range(self._ticks + LATEST_MS // TICK_MS):
            self._happen()
            if tick < self._ticks:
                self._send(tick)
            self._arrive(tick)
            self._advance(TICK_MS)
            self._commit()
            if self._now >= next_sync:
                next_sync += SYNC_EVERY_MS
                self._sync()
        self._pick_fault = NetworkFault  # type: ignore[method-assign]  # calm
        for node in self.nodes.values():
            if node.receiver is None:
                self._start(node)
        if (master := self.nodes["master"]).receiver is not None:
            self._start(master)  # its clients ask for faults anew
        for _ in range(60):
            self._advance(SPAN_MS)
            if self._sync():
                break
        else:
            raise RuntimeError("the master was not complete after 60 syncs")
        self._judge(MAX_INTEGER)

    def _advance(self, milliseconds: int) -> None:
        self._now += milliseconds
        for node in self.nodes.values():
            node.clock.sleep(milliseconds / 1000)

    def _happen(self) -> None:
        while self._plan and START_MS + self._plan[0][0] <= self._now:
            at, name, what = self._plan.pop(0)
            node = self.nodes[name]
            if what == "comes back":
                if node.receiver is None:
                    self._start(node)
            elif node.receiver is not None:
                self._stop(node)
                if what == "is killed":
                    self._start(node)
            self.counts[what] += 1
            self.events.append(f"{at / 1000:7.1f} s  {name} {what}")

    def _send(self, tick: int) -> None:
        numbers = range(tick * self._per_tick, (tick + 1) * self._per_tick)
        for node in self.nodes.values():
            turns = len(node.arriving)
            delays = self._random.choices(range(turns), k=self._per_tick)
            for number, delay in zip(numbers, delays, strict=True):
                node.arriving[(tick + delay) % turns].append(number)

    def _arrive(self, tick: int) -> None:
        """What arrives now at a node that is away does not come again."""
        for node in self.nodes.values():
            turn = tick % len(node.arriving)
            numbers, node.arriving[turn] = node.arriving[turn], []
            if node.receiver is None:
                continue
            for number in numbers:
                try:
                    future = node.receiver.submit(b'{"n":%d}' % number, _META)
                    node.waiting.append((number, future))
                except Unavailable:
                    self.counts["refused"] += 1

    def _commit(self) -> None:
        for node in self.nodes.values():
            if node.receiver is None or not node.waiting:
                continue
            # A kill may come between the stamp and the commit.
            if self._random.random() < 0.0002:
                self._stop(node)
                self._start(node)
                self.counts["killed before a commit"] += 1
                continue
            node.receiver.flush()
            for number, future in node.waiting:
                if future.exception() is None:
                    self._acknowledged[number] |= node.bit
            node.waiting.clear()

    def _sync(self) -> bool:
        """Returns whether all slaves are synced to the end."""
        master = self.nodes["master"].master
        if master is None:
            return False
        report = master.sync()
        self.counts["syncs"] += 1
        self.counts["recovered"] += sum(slave.saved for slave in report.slaves)
        done = report.ok and not any(slave.behind_ms for slave in report.slaves)
        self._retire(master.slave_states())
        say = ", ".join(f"{s.slave} +{s.saved}{' (cut)' if s.error else ''}" for s in report.slaves)
        self.events.append(f"{(self._now - START_MS) / 1000:7.1f} s  sync: {say}")
        return done

    # -- judging -----------------------------------------------------------------------------------

    def _retire(self, states: dict[str, SlaveState]) -> None:
        """Judge and take out what lies two spans before every cursor: nothing is added there."""
        cursors = [state.cursor for state in states.values()]
        if any(cursor is None for cursor in cursors) or len(cursors) < len(NODES) - 1:
            return
        before = min(cursor for cursor in cursors if cursor is not None) - 2 * SPAN_MS
        self._judge(before)

    def _judge(self, before: int) -> None:
        for record in self.nodes["master"].store.records(0, before):
            number = int(record.payload[5:-1])
            self._copies[number] = min(255, self._copies[number] + 1)
        for node in self.nodes.values():
            node.store.prune(before)

    def verdict(self) -> dict[str, object]:
        pairs = zip(self._acknowledged, self._copies, strict=True)
        counts = Counter((told > 0, copies) for told, copies in pairs)
        return {
            "webhooks": len(self._acknowledged),
            "acknowledged by a node": sum(n for (told, _), n in counts.items() if told),
            "acknowledged by every node": sum(told == 7 for told in self._acknowledged),
            "recovered": self.counts["recovered"],
            "lost": sum(n for (told, copies), n in counts.items() if told and not copies),
            "needless": sum(n * (copies - 1) for (_, copies), n in counts.items() if copies > 1),
            "events": dict(self.counts),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=3600)
    # 53 bits, so that no two of millions share a hash and each can be counted for itself
    parser.add_argument("--hash", default="blake2b", choices=list(ALGORITHMS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gc.set_threshold(200_000, 20, 50)  # millions of records that live for minutes
    begun = time.monotonic()
    hour = Hour(options.seed, options.rate, options.seconds, options.hash)
    hour.run()
    verdict = hour.verdict()
    verdict["seconds"] = round(time.monotonic() - begun, 1)
    verdict["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("\n".join(hour.events))
    for what, value in verdict.items():
        print(f"{what}: {value:,}" if isinstance(value, int) else f"{what}: {value}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(verdict, indent=1))
    sys.exit(1 if verdict["lost"] or verdict["needless"] else 0)


if __name__ == "__main__":
    main()
