"""A crowd in memory: more webhooks within two spans than a slave can hold.

The real roles talk over the simulated network. Which webhooks the master lacks is known by their
numbers, whatever their hashes are. After each state that the master saves, nothing that it lacks
may lie before the cursor, nor in a part that the state calls done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from random import Random
from typing import NamedTuple

from msgspec import structs

from loadtests.simulation.disk import Disk
from loadtests.simulation.network import NetworkFault, SimulatedClient
from loadtests.simulation.process_store import Accident, Killed, ProcessStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import SlaveRefused
from portable_core.ingest.receiver import Receiver
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Lease, SlaveInfo, SlaveState, SyncAnswer, SyncRequest
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.master import LEASE_MS, Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave

SPAN_MS = 60_000
START = 1_700_000_000_000

#: The hashes that the slave holds, and the webhooks of each kind within two spans.
MOST_HELD = 100
MISSING, REPRESENTED, OURS = 60, 340, 300


class Samples(NamedTuple):
    theirs: Sequence[Record]
    ours: Sequence[Record]
    missing: Sequence[Pair]


def make_record(number: int, timestamp: int) -> Record:
    payload = b'{"number":%d}' % number
    return Record(Pair(timestamp, hash_payload(payload)), payload)


@cache
def make_samples() -> Samples:
    random = Random(17)
    theirs, ours, missing = [], [], []
    for number in range(MISSING + REPRESENTED + OURS):
        record = make_record(number, START + random.randrange(2 * SPAN_MS))
        if number < MISSING + REPRESENTED:
            theirs.append(record)
        if number < MISSING:
            missing.append(record.pair)
        else:
            shift = random.choice((-SPAN_MS, -1, 0, 1, SPAN_MS)) if number % 2 else 0
            time = record.pair.timestamp + shift
            ours.append(structs.replace(record, pair=Pair(time, record.pair.hash)))
    return Samples(sorted(theirs, key=_get_pair), ours, sorted(missing))


def _get_pair(record: Record) -> Pair:
    return record.pair


class _WatchedStore(ProcessStore):
    """Checks each state that is saved."""

    check: Callable[[], None]

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        try:
            super().save_slave(lease, name, state)
        finally:
            self.check()


class CrowdClient(SimulatedClient):
    """``most_pairs``: a proxy rejects requests with more pairs. ``old``: the slave has no parts."""

    most_pairs = MAX_INTEGER
    old = False
    requests: list[SyncRequest]

    def describe(self, *args: object) -> SlaveInfo:
        info = super().describe(*args)  # type: ignore[arg-type]  # keep_waiting, if given
        return structs.replace(info, ranges=False) if self.old else info

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        self.requests.append(request)
        body = list(request.body)
        if sum(map(len, body)) > 14 * self.most_pairs:
            raise SlaveRefused(f"{self.name}: answered 413", 413)
        with super().exchange(replace(request, body=body)) as answer:
            yield answer


class CrowdTrial:
    """A master and a slave. ``faults`` are those of the requests, ``accidents`` of the writes."""

    def __init__(
        self,
        *,
        faults: dict[int, NetworkFault] | None = None,
        accidents: dict[int, Accident] | None = None,
        samples: Samples | None = None,
        most_held: int = MOST_HELD,
        **env: str,
    ) -> None:
        self.samples = samples or make_samples()
        self._faults = faults or {}
        self._accidents = accidents or {}
        self._env = {
            "SYNC_AUTH": "none",
            "STORE": "memory:",
            "SPAN_S": str(SPAN_MS // 1000),
            "LINGER_MS": "0",
            **env,
        }
        self.clock = SimulatedClock(START + 3_600_000)
        self.writes = self.calls = self.skipped = 0
        self.disk = self._make_disk(1, self.samples.ours)
        slave_store = ProcessStore(
            self._make_disk(2, self.samples.theirs), lambda name: Accident.NONE, lambda _: None
        )
        self.slave = Slave(self._make_receiver("slave", slave_store), max_held=most_held)
        self.client = CrowdClient("slave", lambda: self.slave, pick_fault=self._pick_fault)
        self.client.requests = []
        self.master = self._start_master()
        self.reports: list[SlaveReport] = []

    def _make_receiver(self, role: Role, store: ProcessStore) -> Receiver:
        return Receiver(Settings.from_env(role, self._env), store, self.clock)

    def _make_disk(self, number: int, records: Sequence[Record]) -> Disk:
        disk = Disk(f"00000000-0000-0000-0000-{number:012}", shared=False, reach=SPAN_MS)
        disk.open("crc32c")
        disk.append(records)
        return disk

    def _start_master(self) -> Master:
        store = _WatchedStore(self.disk, self._decide, lambda records: None)
        store.check = self.check_state
        return Master(self._make_receiver("master", store), store, [self.client])

    def _pick_fault(self) -> NetworkFault:
        self.calls += 1
        return self._faults.get(self.calls, NetworkFault())

    def _decide(self, name: str) -> Accident:
        self.writes += 1
        return self._accidents.get(self.writes, Accident.NONE)

    def sync(self) -> SlaveReport | None:
        """Return the slave's report; None if the master was killed, and begins again."""
        try:
            (report,) = self.master.sync().slaves
        except Killed:
            self.clock.sleep(LEASE_MS / 1000)
            self.master = self._start_master()
            return None
        self.reports.append(report)
        return report

    def end_after_requests(self, count: int) -> None:
        """Begin a master whose next sync ends in order after so many requests."""
        left = len(self.client.requests) + count
        self.master = self._start_master()

        def watch() -> Callable[[], bool]:
            return lambda: len(self.client.requests) < left

        self.master._watch_hand_overs = watch  # type: ignore[method-assign]  # as a stop would

    def sync_to_end(self, rounds: int = 3) -> None:
        """Sync until nothing is behind; the master then has exactly the missing records."""
        self.master = self._start_master()
        for _ in range(rounds):
            report = self.sync()
            if report is not None and report.ok and report.behind_ms == 0:
                break
        else:
            raise AssertionError(f"{rounds} syncs were not enough: {self.reports[-1:]}")
        ours = {record.pair for record in self.samples.ours}
        held = set(self.disk.pairs(0, MAX_INTEGER)) - ours
        lost, needless = set(self.samples.missing) - held, held - set(self.samples.missing)
        assert not lost, f"{len(lost)} records are lost"
        assert not needless, f"{len(needless)} records are stored twice"
        assert not self.skipped, "a state was saved that skips a record"

    @property
    def state(self) -> SlaveState:
        return self.disk.slave_states().get("slave", SlaveState())

    def check_state(self) -> None:
        """Count the missing records that the saved state calls represented."""
        state = self.state
        cursor, part = state.cursor or 0, state.part
        for pair in self.samples.missing:
            done = pair.timestamp < cursor
            if part is not None and part.start == cursor <= pair.timestamp < part.end:
                done = pair.hash < part.done
            if done and not self.disk.holds(pair):
                self.skipped += 1
