"""Real connections cut at random places, and a master killed at random moments."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from loadtests.bench_sync_nodes import OneEncodingClient
from loadtests.proxy import Plan, Proxy
from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.demo.processes import NodeProcess
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Lease, SlaveState, Store
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.sync_nodes import (
    SPAN_MS,
    TOKEN,
    Nodes,
    count_needless,
    fill,
    make_record,
    now_ms,
    open_store,
    start,
    sync,
)

CUTS = 104
SEED = 20_260_101
KILLS = 5


def find_unrepresented(
    records: Sequence[Record], master: Store, before: int, span: int
) -> list[Record]:
    """Those before a moment whose payload the master does not have."""
    held: dict[int, list[int]] = {}
    for pair in master.pairs(0, MAX_INTEGER):
        held.setdefault(pair.hash, []).append(pair.timestamp)
    return [
        record
        for record in records
        if record.pair.timestamp < before
        and not any(
            abs(record.pair.timestamp - timestamp) <= span
            for timestamp in held.get(record.pair.hash, ())
        )
    ]


class WatchedStore(MemoryStore):
    """Sees every cursor at the moment in which it is saved."""

    def __init__(self, records: Sequence[Record], span: int) -> None:
        super().__init__()
        self._watched = records
        self._span = span
        self.cursors: list[int] = []

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        if state is not None and state.cursor is not None:
            self.cursors.append(state.cursor)
            assert not find_unrepresented(self._watched, self, state.cursor, self._span)
        super().save_slave(lease, name, state)


@dataclass
class Totals:
    tried: int = 0
    cuts: int = 0
    lost: int = 0
    needless: int = 0
    sent_again: int = 0
    syncs: int = 0


class Rig:
    """A slave that runs; every second of its records a master has already, stamped by itself."""

    span = 1000

    def __init__(self, nodes: Nodes) -> None:
        begin = now_ms() - 600_000
        random = Random(SEED)
        self.records = [
            make_record(n, begin + 10 * n, random.choice([0, 0, 300, 2000, 20_000]))
            for n in range(300)
        ]
        self.held = [
            structs.replace(
                record, pair=Pair(record.pair.timestamp + random.randint(-900, 900), hash_)
            )
            for record in self.records[::2]
            for hash_ in [record.pair.hash]
        ]
        self.slave: NodeProcess = nodes.make_slave("slave", SPAN_S="1")
        fill(nodes.folder / "slave", self.records)
        start(self.slave)

    def make_master(self, url: str, media_type: str) -> tuple[Master, WatchedStore]:
        env = {"STORE": "memory:", "SYNC_AUTH": "none", "SPAN_S": "1"}
        store = WatchedStore(self.records, self.span)
        store.open("crc32c")
        store.append(self.held)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client = OneEncodingClient("slave", url, credentials=lambda: headers, idle_s=20)
        client.media_type = media_type
        receiver = Receiver(Settings.from_env("master", env), store, SystemClock())
        return Master(receiver, store, [client]), store


def sync_once(master: Master) -> SlaveReport:
    (report,) = master.sync().slaves
    return report


def cut_sync(
    rig: Rig, proxy: Proxy, media_type: str, plan: Plan, times: int, totals: Totals
) -> None:
    """Let the first exchanges of a sync go by ``plan``, then sync to the end."""
    master, store = rig.make_master(proxy.url, media_type)
    cuts = proxy.cuts
    plans = [plan] * times
    proxy.plan = lambda line: plans.pop() if plans and line.startswith(b"POST") else Plan()
    reports = [sync_once(master)]
    plans.clear()
    while not reports[-1].ok or reports[-1].behind_ms:
        assert len(reports) < 5, reports
        reports.append(sync_once(master))
    records = list(store.records(0, MAX_INTEGER))
    totals.tried += 1
    totals.cuts += proxy.cuts - cuts
    totals.syncs += len(reports)
    totals.lost += len(find_unrepresented(rig.records, store, MAX_INTEGER, rig.span))
    totals.needless += count_needless(records, rig.span)
    missing = len(rig.records) - len(rig.held)
    totals.sent_again += sum(report.records_received for report in reports) - missing
    assert sorted(r.payload for r in records) == sorted(r.payload for r in rig.records)
    assert {r.payload: r.meta for r in records} == {r.payload: r.meta for r in rig.records}
    assert store.cursors == sorted(store.cursors)
    for client in master.clients.values():
        assert isinstance(client, HttpSlaveClient)
        client.close()


def measure(rig: Rig, proxy: Proxy, media_type: str) -> tuple[int, int]:
    """The bytes of a whole request and of a whole answer."""
    master, _ = rig.make_master(proxy.url, media_type)
    sizes: list[int] = []
    for _ in range(2):  # the second sync has nothing left to ask for but what it is
        sizes += [proxy.request_bytes, proxy.answer_bytes]
        assert sync_once(master).ok
        time.sleep(0.1)
    sizes += [proxy.request_bytes, proxy.answer_bytes]
    request = (sizes[2] - sizes[0]) - (sizes[4] - sizes[2])
    answer = (sizes[3] - sizes[1]) - (sizes[5] - sizes[3])
    return request, answer


def test_cuts_at_random_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(SEED)
    totals = Totals()
    with Nodes(tmp_path) as nodes:
        rig = Rig(nodes)
        with Proxy(rig.slave.port) as proxy:
            kinds = list(itertools.product(ENCODINGS, ("request", "answer"), (False, True)))
            sizes = {name: measure(rig, proxy, name) for name in ENCODINGS}
            for media_type, direction, reset in kinds * (CUTS // len(kinds)):
                request, answer = sizes[media_type]
                if direction == "request":
                    plan = Plan(cut_request=random.randint(1, request), reset=reset)
                else:
                    plan = Plan(cut_answer=random.randint(1, answer), reset=reset)
                # Every fourth time as by a platform that cuts each answer at the same place.
                times = 20 if random.random() < 0.25 else 1
                cut_sync(rig, proxy, media_type, plan, times, totals)
    with capsys.disabled():
        print(f"\ncuts over sockets (seed {SEED}): {totals}")
    assert totals.tried == CUTS
    assert totals.cuts >= CUTS * 9 // 10
    assert totals.lost == totals.needless == totals.sent_again == 0


def read_cursor(folder: Path) -> int:
    """The saved cursor of the only slave; 0 before there is one."""
    store = SqliteStore(str(folder), read_only=True)
    store.open("crc32c")
    try:
        return store.slave_states().get("slave", SlaveState()).cursor or 0
    finally:
        store.close()


def find_unsafe(nodes: Nodes, records: Sequence[Record]) -> list[Record]:
    """Records before the cursor that the master's folder does not have."""
    store = SqliteStore(str(nodes.folder / "master"), read_only=True)
    store.open("crc32c")
    try:
        return find_unrepresented(records, store, read_cursor(nodes.folder / "master"), SPAN_MS)
    finally:
        store.close()


def let_lease_expire(folder: Path) -> None:
    """As after a minute."""
    with open_store(folder) as store:
        store.release_lease(store.acquire_lease("a minute later", now_ms() + 60_000, 1))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def test_a_master_that_is_killed_in_the_middle(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(SEED)
    begin = now_ms() - 7_200_000
    records = fill(
        nodes.folder / "slave", [make_record(n, begin + 1000 * n, 1000) for n in range(6000)]
    )
    slave = nodes.make_slave("slave")
    saved = []
    with Proxy(slave.port, lambda line: Plan(rate=2_000_000)) as proxy:
        # Windows of three minutes, so that kills hit all steps of several.
        master = nodes.make_master({"slave": proxy.url}, SYNC_WINDOW_S="180")
        start(slave, master)
        for _ in range(KILLS):
            with ThreadPoolExecutor() as pool:
                running = pool.submit(sync, master)
                time.sleep(random.uniform(0.02, 0.5))
                master.kill()
                assert running.exception() is not None
            assert not find_unsafe(nodes, records)
            saved.append(len(nodes.read(master)))
            let_lease_expire(nodes.folder / "master")
            start(master)
        proxy.plan = lambda line: Plan()
        answer = sync(master)
    assert answer.status == 200, answer.body
    held = nodes.read(master)
    with capsys.disabled():
        print(f"\nkills of a master in a sync (seed {SEED}): {KILLS}, saved by then {saved}")
    assert saved == sorted(saved)
    assert [record.payload for record in held] == [record.payload for record in records]
    assert count_needless(held) == 0
