"""One state machine for all stores: after every operation a plain model agrees."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from portable_core.errors import LeaseHeld, LeaseLost
from portable_core.ports import BEGINNING, Lease, MasterStore, Quarantined, SlaveState, StoreInfo
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from tests.support.stores.samples import DAY, HOUR, NOON, make_record
from tests.support.stores.stores import ALGORITHM, STORES, Place, StoreUnderTest

#: Times on both sides of the borders of hours and days, few enough to recur often.
BASES = (0, NOON - 2 * DAY, NOON - HOUR, NOON - HOUR // 2, NOON, NOON + HOUR // 2, NOON + DAY)
timestamps = st.builds(
    lambda base, offset: max(base + offset, 0), st.sampled_from(BASES), st.integers(-3, 3)
)
pairs = st.builds(Pair, timestamps, st.integers(0, 3))
batches = st.lists(pairs, max_size=12).map(
    lambda chosen: [make_record(pair.timestamp, pair.hash) for pair in chosen]
)
bounds = st.one_of(timestamps, st.sampled_from([0, MAX_INTEGER + 1]))
names = st.sampled_from(["a", "b"])


def _minutes(count: int) -> int:
    """Return milliseconds; real time, in which leases expire too, is much shorter."""
    return count * 60_000


#: Where a thousand commits take no time; what survives a power cut is not the question here.
FAST_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class OpenScan:
    """A running scan and the items it must still return. ``loose``: some were pruned since."""

    items: Iterator[Pair] | Iterator[Record]
    expected: list[Pair] | list[Record]
    loose: bool = False


@dataclass
class Model:
    """The expected content of the store."""

    records: dict[Pair, Record] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    slaves: dict[str, SlaveState] = field(default_factory=dict)
    quarantine: dict[str, Quarantined] = field(default_factory=dict)

    def add(self, records: Sequence[Record]) -> None:
        for record in records:
            self.records.setdefault(record.pair, record)

    def window(self, start: int, end: int) -> list[Record]:
        return [self.records[p] for p in sorted(self.records) if start <= p.timestamp < end]


class StoreMachine(RuleBasedStateMachine):
    """Runs operations on one store, which a subclass chooses."""

    kind: ClassVar[StoreUnderTest]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="agreement-", dir=FAST_FOLDER))
        self.place: Place = self.kind.make_place(self.folder)
        self.model = Model()
        self.scans: list[OpenScan] = []
        self.leases: list[Lease] = []
        self.released = True
        self.now = NOON
        #: The records that a reader has read in the order of arrival, without those removed since,
        #: and positions with what was read before them.
        self.order: list[Pair] = []
        self.positions: list[tuple[str, set[Pair]]] = [(BEGINNING, set())]
        self.store: MasterStore
        self.info: StoreInfo

    @initialize()
    def begin(self) -> None:
        self.store = self.place.connect()
        self.info = self.store.open(ALGORITHM)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.place.close()
        shutil.rmtree(self.folder)

    # -- records -----------------------------------------------------------------------------------

    @rule(records=batches)
    def append(self, records: list[Record]) -> None:
        self.store.append(records)
        self.model.add(records)

    @precondition(lambda self: self.model.records)
    @rule(data=st.data())
    def append_again(self, data: st.DataObject) -> None:
        known = sorted(self.model.records)
        chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=5))
        self.store.append([self.model.records[pair] for pair in chosen])

    @rule(start=bounds, end=bounds)
    def read_window(self, start: int, end: int) -> None:
        expected = self.model.window(start, end)
        assert list(self.store.pairs(start, end)) == [record.pair for record in expected]
        assert list(self.store.records(start, end)) == expected

    @rule(asked=st.lists(pairs, max_size=8, unique=True))
    def fetch(self, asked: list[Pair]) -> None:
        known = self.model.records
        assert list(self.store.fetch(asked)) == [known[pair] for pair in asked if pair in known]

    @rule(before=bounds, limit=st.integers(0, 10))
    def latest(self, before: int, limit: int) -> None:
        older = [record.pair for record in self.model.window(0, before)]
        assert self.store.latest(before, limit) == older[::-1][:limit]

    # -- the order of arrival ----------------------------------------------------------------------

    @rule()
    def read_on(self) -> None:
        """A reader gets all that was appended since, and nothing twice, but in a shared store."""
        position, _ = self.positions[-1]
        arrivals = list(self.store.arrivals(position))
        got = [arrival.record.pair for arrival in arrivals]
        assert [arrival.record for arrival in arrivals] == [self.model.records[p] for p in got]
        new = [pair for pair in dict.fromkeys(got) if pair not in set(self.order)]
        assert set(new) == set(self.model.records) - set(self.order)
        assert new == got or self.store.shared
        self.order += new
        if arrivals:
            self.positions.append((arrivals[-1].position, set(self.order)))

    @rule(data=st.data())
    def read_from_an_earlier_position(self, data: st.DataObject) -> None:
        self.read_on()
        position, read = data.draw(st.sampled_from(self.positions))
        got = [arrival.record.pair for arrival in self.store.arrivals(position)]
        rest = [pair for pair in self.order if pair not in read]
        assert got == rest if not self.store.shared else set(got) >= set(rest)

    # -- scans that stay open ----------------------------------------------------------------------

    @rule(start=bounds, end=bounds, whole=st.booleans())
    def begin_scan(self, start: int, end: int, whole: bool) -> None:
        expected = self.model.window(start, end)
        if whole:
            scan = OpenScan(self.store.records(start, end), expected)
        else:
            scan = OpenScan(self.store.pairs(start, end), [record.pair for record in expected])
        self._advance(scan, 1)
        self.scans.append(scan)

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), steps=st.integers(1, 20), abandon=st.booleans())
    def go_on_with_scan(self, data: st.DataObject, steps: int, abandon: bool) -> None:
        scan = data.draw(st.sampled_from(self.scans))
        self._advance(scan, steps)
        if abandon or not scan.expected:
            self.scans.remove(scan)

    def _advance(self, scan: OpenScan, steps: int) -> None:
        for _ in range(steps):
            item = next(scan.items, None)
            if scan.loose:
                while scan.expected and scan.expected[0] != item:
                    scan.expected.pop(0)
            assert item == (scan.expected.pop(0) if scan.expected else None)
            if item is None:
                return

    @rule(appended=st.lists(batches, min_size=1, max_size=3))
    def scan_while_another_thread_appends(self, appended: list[list[Record]]) -> None:
        before = set(self.model.records)

        def append_all() -> None:
            for records in appended:
                self.store.append(records)

        with ThreadPoolExecutor(1) as executor:
            appending = executor.submit(append_all)
            got = list(self.store.pairs(0, MAX_INTEGER + 1))
            appending.result()
        for records in appended:
            self.model.add(records)
        assert got == sorted(set(got))
        assert before <= set(got) <= set(self.model.records)

    @rule(written=st.lists(batches, min_size=2, max_size=3))
    def append_from_several_threads(self, written: list[list[Record]]) -> None:
        """A master's webhooks and its sync do; batches may share records."""
        at_once = Barrier(len(written), timeout=10)

        def append(records: list[Record]) -> None:
            at_once.wait()
            self.store.append(records)

        with ThreadPoolExecutor(len(written)) as executor:
            list(executor.map(append, written))
        for records in written:
            self.model.add(records)
        assert list(self.store.pairs(0, MAX_INTEGER + 1)) == sorted(self.model.records)

    # -- retention, reopening ----------------------------------------------------------------------

    @rule(before=bounds)
    def prune(self, before: int) -> None:
        self.store.prune(before)
        self._accept_loss(before)

    def _accept_loss(self, before: int) -> None:
        """Records older than ``before`` may be gone; all others must not."""
        left = set(self.store.pairs(0, MAX_INTEGER + 1))
        gone = set(self.model.records) - left
        assert all(pair.timestamp < before for pair in gone)
        assert left <= set(self.model.records)
        for pair in gone:
            del self.model.records[pair]
        if gone:
            for scan in self.scans:
                scan.loose = True
            self.order = [pair for pair in self.order if pair not in gone]
            self.positions = [(position, read - gone) for position, read in self.positions]

    @rule(name=names, value=st.integers(0, 5))
    def raise_mark(self, name: str, value: int) -> None:
        self.model.marks[name] = max(value, self.model.marks.get(name, 0))
        assert self.store.raise_mark(name, value) == self.model.marks[name]

    @rule(name=names, value=st.integers(0, 5))
    def set_mark(self, name: str, value: int) -> None:
        self.model.marks[name] = value
        self.store.set_mark(name, value)
        assert self.store.mark(name) == value

    @rule()
    def reopen(self) -> None:
        self.scans.clear()
        self.store.close()
        self.store = self.place.connect()
        assert self.store.open(ALGORITHM) == self.info
        # No other process can hold the lease of a store with one writer.
        self.released = self.released or not self.store.shared

    # -- the master's state ------------------------------------------------------------------------

    @rule(
        holder=names, passed=st.integers(0, 8).map(_minutes), ttl=st.integers(1, 10).map(_minutes)
    )
    def acquire_lease(self, holder: str, passed: int, ttl: int) -> None:
        self.now += passed
        # In a shared store a server's time decides, in which no minute passes here.
        passing = (
            not self.store.shared and bool(self.leases) and self.now >= self.leases[-1].expires
        )
        if not self.released and not passing:
            with pytest.raises(LeaseHeld):
                self.store.acquire_lease(holder, self.now, ttl)
            return
        lease = self.store.acquire_lease(holder, self.now, ttl)
        assert (lease.holder, lease.expires) == (holder, self.now + ttl)
        assert not self.leases or lease.token > self.leases[-1].token
        self.leases.append(lease)
        self.released = False

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ttl=st.integers(1, 10).map(_minutes))
    def renew_lease(self, data: st.DataObject, ttl: int) -> None:
        lease = data.draw(st.sampled_from(self.leases[-3:]))
        if not self._holds(lease):
            with pytest.raises(LeaseLost):
                self.store.renew_lease(lease, self.now, ttl)
            return
        self.leases[-1] = self.store.renew_lease(lease, self.now, ttl)
        assert self.leases[-1] == Lease(lease.token, lease.holder, self.now + ttl)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases[-3:]))
        self.store.release_lease(lease)
        self.released = self.released or lease.token == self.leases[-1].token

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), records=batches, name=names, cursor=st.integers(0, 9))
    def save_under_lease(
        self, data: st.DataObject, records: list[Record], name: str, cursor: int
    ) -> None:
        lease = data.draw(st.sampled_from(self.leases[-3:]))
        state = SlaveState(cursor, "store", cursor, None, {"cursor": [cursor]}) if cursor else None
        item = Quarantined(
            f"id-{cursor}", name, cursor, "reason", Record(Pair(1, cursor), b"{", Meta())
        )
        if not self._holds(lease):
            with pytest.raises(LeaseLost):
                self.store.save_records(lease, records)
            with pytest.raises(LeaseLost):
                self.store.save_slave(lease, name, state)
            with pytest.raises(LeaseLost):
                self.store.save_quarantine(lease, [item])
            return
        self.store.save_records(lease, records)
        self.model.add(records)
        self.store.save_slave(lease, name, state)
        self.model.slaves.pop(name, None)
        if state is not None:
            self.model.slaves[name] = state
        self.store.save_quarantine(lease, [item])
        self.model.quarantine.setdefault(item.id, item)

    def _holds(self, lease: Lease) -> bool:
        return not self.released and lease.token == self.leases[-1].token

    # -- always ------------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "info"):
            return
        known = self.model.records
        assert self.store.first() == (min(known).timestamp if known else None)
        assert self.store.last() == (max(known).timestamp if known else None)
        assert self.store.slave_states() == self.model.slaves
        assert [item.id for item in self.store.quarantine()] == sorted(self.model.quarantine)


@pytest.mark.parametrize("name", STORES)
def test_every_store_agrees_with_the_model(name: str) -> None:
    kind = STORES[name]
    machine = type(f"{name.title()}Machine", (StoreMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=kind.examples,
            stateful_step_count=kind.steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
