"""A small sync, cut after every byte in both directions, its master killed at every step.

The real roles talk over a network in memory. What is right is known beforehand: which records the
master lacks was decided when they were made. ``python -m tests.support.laws.cut_sweep`` prints
totals.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from loadtests.simulation.disk import Disk
from loadtests.simulation.network import NetworkFault
from loadtests.simulation.nodes import CoreParts
from loadtests.simulation.process_store import Accident, Killed, ProcessStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.receiver import Receiver
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Lease, SlaveState
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.master import LEASE_MS, Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave
from portable_core.wire.negotiation import ENCODINGS

SPAN_MS = 60_000
MISSING = 50
REPRESENTED = 20
START = 1_700_000_000_000

#: How many syncs may be needed after one accident: it is noticed, and all is well.
_ROUNDS = 3

#: So many records may have arrived and not been saved when a master dies: those of one second.
MOST_UNSAVED = 8

#: The longest window: all records in one, or some in each.
ONE_WINDOW_S, MANY_WINDOWS_S = 86_400, 240

KILLS = (Accident.KILL_BEFORE, Accident.KILL_TORN, Accident.KILL_AFTER)


@dataclass(frozen=True, slots=True)
class Samples:
    """``theirs`` is on the slave, of which the master represents all but ``missing``."""

    theirs: Sequence[Record]
    ours: Sequence[Record]
    missing: Sequence[Pair]


def _make_samples() -> Samples:
    random = Random(1)
    theirs, ours, missing = [], [], []
    lacks = random.sample(range(MISSING + REPRESENTED), MISSING)
    for number in range(MISSING + REPRESENTED):
        payload = b'{"number":%d,"text":"%s"}' % (number, b"x" * (60 - 23 - len(str(number))))
        # Some share a millisecond: a cursor may stop between them.
        timestamp = START + number // 3 * 10_000 + (number % 3 > 1) * 1_000
        pair = Pair(timestamp, hash_payload(payload))
        theirs.append(Record(pair, payload))
        if number in lacks:
            missing.append(pair)
        else:
            shifted = Pair(timestamp + random.choice((-SPAN_MS, -1, 0, SPAN_MS)), pair.hash)
            ours.append(Record(shifted, payload))
    return Samples(theirs, ours, sorted(missing))


SAMPLES = _make_samples()


@dataclass(slots=True)
class Totals:
    """Of many syncs, each with one accident: what was tried, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    #: The most records that one accident made the slave send twice.
    most_again: int = 0

    def __str__(self) -> str:
        names = ("cuts", "kills", "lost", "needless", "past durable", "stuck")
        parts = [f"{name} {self.counts[name]:,}" for name in names]
        return f"{', '.join(parts)}, most records sent again {self.most_again}"

    @property
    def wrong(self) -> int:
        return sum(self.counts[name] for name in ("lost", "needless", "past durable", "stuck"))

    def add(self, other: Totals) -> None:
        self.counts += other.counts
        self.most_again = max(self.most_again, other.most_again)


class _WatchedStore(ProcessStore):
    """Looks after each cursor that is saved whether all before it is durable."""

    trial: Trial

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        try:
            super().save_slave(lease, name, state)
        finally:
            self.trial.check_cursor()


class Trial:
    """One sync with one accident, and the syncs after it.

    ``faults`` are those of the exchanges, one after the other; ``accidents`` those of the master's
    writes, by their number.
    """

    def __init__(
        self,
        parts: CoreParts,
        media_type: str,
        *,
        faults: Iterable[NetworkFault] = (),
        accidents: dict[int, Accident] | None = None,
        window_s: int = 86_400,
        step_s: float = 0.0,
    ) -> None:
        self._parts = parts
        # Before the exchange come GET /sync and, for each encoding preferred to this one, a 415.
        before = 1 + list(ENCODINGS).index(media_type)
        self._faults = iter([NetworkFault()] * before + list(faults))
        self._accidents = accidents or {}
        self._step_s = step_s
        self.clock = SimulatedClock(START + 3_600_000)
        self.writes = 0
        self.totals = Totals()
        self.received = 0
        self.disk = self._make_disk(1, SAMPLES.ours)
        self._window_s = window_s
        slave_store = ProcessStore(
            self._make_disk(2, SAMPLES.theirs), lambda name: Accident.NONE, lambda records: None
        )
        slave = Slave(Receiver(self._make_settings("slave"), slave_store, self.clock))
        self.client = parts.client(
            "slave",
            lambda: slave,
            pick_fault=lambda: next(self._faults, NetworkFault(buffered=True)),
            pause=lambda: self.clock.sleep(self._step_s),
            count_cut=lambda: self.totals.counts.update(["cuts"]),
            encodings=(media_type,),
        )
        self.master = self._start_master()

    def _make_settings(self, role: Role) -> Settings:
        env = {
            "SYNC_AUTH": "none",
            "STORE": "memory:",
            "SPAN_S": str(SPAN_MS // 1000),
            "SYNC_WINDOW_S": str(self._window_s),
            "LINGER_MS": "0",
        }
        return Settings.from_env(role, env)

    def _make_disk(self, number: int, records: Sequence[Record]) -> Disk:
        disk = self._parts.disk(f"00000000-0000-0000-0000-{number:012}", shared=False, reach=0)
        disk.open("crc32c")
        disk.append(records)
        return disk

    def _start_master(self) -> Master:
        store = _WatchedStore(self.disk, self._decide, lambda records: None)
        store.trial = self
        receiver = Receiver(self._make_settings("master"), store, self.clock)
        return Master(receiver, store, [self.client])

    def _decide(self, name: str) -> Accident:
        self.writes += 1
        return self._accidents.get(self.writes, Accident.NONE)

    def run(self) -> Totals:
        """Sync until nothing is left, and count what is wrong."""
        done = any(self._sync() for _ in range(_ROUNDS))
        held = set(self.disk.pairs(0, MAX_INTEGER)) - {record.pair for record in SAMPLES.ours}
        counts = self.totals.counts
        counts["stuck"] += not done
        counts["lost"] += len(set(SAMPLES.missing) - held)
        counts["needless"] += len(held - set(SAMPLES.missing))
        self.totals.most_again = self.received - MISSING
        return self.totals

    def _sync(self) -> bool:
        latest: list[SlaveReport] = []
        try:
            report = self.master.sync(progress=latest.append)
        except Killed:
            self.clock.sleep(LEASE_MS / 1000)  # nobody gave it back
            self.master = self._start_master()
            self.check_cursor()
            return False
        finally:
            self.received += latest[-1].records_received if latest else 0
        return report.ok and not any(slave.behind_ms for slave in report.slaves)

    def check_cursor(self) -> None:
        """Nothing that the master lacks lies before the cursor on its disk."""
        cursor = self.disk.slave_states().get("slave", SlaveState()).cursor or 0
        lacking = (pair for pair in SAMPLES.missing if not self.disk.holds(pair))
        first = next(lacking, None)
        if first is not None and first.timestamp < cursor:
            self.totals.counts["past durable"] += 1


# -- the sweeps ------------------------------------------------------------------------------------


def measure(media_type: str) -> tuple[int, int]:
    """How many bytes the request and the answer of the uncut sync have."""
    trial = Trial(CoreParts(), media_type)
    trial.run()
    traffic = trial.client.traffic
    return traffic.request_bytes, traffic.answer_bytes


def make_faults(media_type: str, direction: str) -> Iterator[NetworkFault]:
    """A cut after every byte but the last of ``request`` or ``answer``.

    By turns it seems to have ended there, or the connection breaks.
    """
    requests, answers = measure(media_type)
    for size in range(requests if direction == "request" else answers):
        clean = size % 2 > 0
        if direction == "request":
            yield NetworkFault(request_cut=size, request_clean=clean, buffered=True)
        else:
            yield NetworkFault(answer_cut=size, answer_clean=clean, buffered=True)


def turn_over(faults: Iterable[NetworkFault]) -> Iterator[NetworkFault]:
    """The same cuts the other way, and nothing buffered on the way."""
    for fault in faults:
        yield replace(
            fault,
            request_clean=not fault.request_clean,
            answer_clean=not fault.answer_clean,
            buffered=False,
            chunk=64,
        )


def cut(media_type: str, faults: Iterable[NetworkFault], parts: CoreParts | None = None) -> Totals:
    """One trial for every fault."""
    totals = Totals()
    for fault in faults:
        totals.add(Trial(parts or CoreParts(), media_type, faults=[fault]).run())
    return totals


def kill(media_type: str, window_s: int, parts: CoreParts | None = None) -> Totals:
    """Let the master die before, in and after every write of its sync; saves come in between."""

    def make(accidents: dict[int, Accident]) -> Trial:
        slow = [NetworkFault(chunk=64)] * 1000
        return Trial(
            parts or CoreParts(),
            media_type,
            faults=slow,
            accidents=accidents,
            window_s=window_s,
            step_s=0.3,
        )

    undisturbed, totals = make({}), Totals()
    totals.add(undisturbed.run())
    for number in range(1, undisturbed.writes + 1):
        for accident in KILLS:
            totals.add(make({number: accident}).run())
            totals.counts["kills"] += 1
    return totals


#: By name, what is tried in every encoding.
SWEEPS: dict[str, Callable[[str], Totals]] = {
    "request cut": lambda media_type: cut(media_type, make_faults(media_type, "request")),
    "answer cut": lambda media_type: cut(media_type, make_faults(media_type, "answer")),
    "request cut the other way": lambda media_type: cut(
        media_type, turn_over(make_faults(media_type, "request"))
    ),
    "answer cut the other way": lambda media_type: cut(
        media_type, turn_over(make_faults(media_type, "answer"))
    ),
    "master killed, one window": lambda media_type: kill(media_type, ONE_WINDOW_S),
    "master killed, many windows": lambda media_type: kill(media_type, MANY_WINDOWS_S),
}


def main() -> None:
    """Run every sweep and print what came of it; exit 1 if anything was wrong."""
    sum_ = Totals()
    for media_type in ENCODINGS:
        requests, answers = measure(media_type)
        print(f"{media_type}: {MISSING} records, request {requests} B, answer {answers} B")
        for name, sweep in SWEEPS.items():
            totals = sweep(media_type)
            print(f"  {name}: {totals}", flush=True)
            sum_.add(totals)
    print(f"all: {sum_}")
    sys.exit(1 if sum_.wrong else 0)


if __name__ == "__main__":
    main()
