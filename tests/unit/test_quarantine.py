"""The quarantine is bounded: a full one stops a sync, and loses nothing; people empty it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import Conflict, NotFound, RecordRefused
from portable_core.ingest.receiver import Receiver
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Lease, SlaveState
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave

START = 1_700_000_000_000
ENV = {"STORE": "memory:", "SYNC_AUTH": "none"}


def make_good(number: int, time: int) -> Record:
    payload = b'{"number":%d}' % number
    return Record(Pair(START + time, hash_payload(payload)), payload)


def make_bad(number: int, time: int, payload: bytes = b"") -> Record:
    """A record whose hash is that of no payload."""
    payload = payload or b'{"bad":%d}' % number
    return Record(Pair(START + time, number), payload, Meta("shop"))


class PickyStore(MemoryStore):
    """Refuses to store records of one source."""

    refused = ""

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        if self.refused and any(record.meta.source == self.refused for record in records):
            raise RecordRefused("its meta is too large")
        super().save_records(lease, records)


class Nodes:
    def __init__(self, records: Sequence[Record] = (), **env: str) -> None:
        self.clock = SimulatedClock(START + 3_600_000)
        slave_store = MemoryStore()
        self.slave = Slave(self._make_receiver("slave", slave_store, env))
        self.slave.receiver.open()
        slave_store.append(records)
        self.store = PickyStore()
        self.start_master(**env)

    def _make_receiver(self, role: Role, store: MemoryStore, env: dict[str, str]) -> Receiver:
        return Receiver(Settings.from_env(role, ENV | env), store, self.clock)

    def start_master(self, **env: str) -> None:
        client = SimulatedClient("alpha", lambda: self.slave)
        receiver = self._make_receiver("master", self.store, env)
        self.master = Master(receiver, self.store, [client])

    def sync(self) -> SlaveReport:
        (report,) = self.master.sync().slaves
        return report

    def set_aside(self, record: Record) -> str:
        """Put a record into the quarantine; return its id."""
        assert self.master.accept("alpha", iter([record])).set_aside == 1
        return self.store.list_quarantine(None, 1)[0].id

    @property
    def state(self) -> SlaveState:
        return self.store.slave_states()["alpha"]

    def held(self) -> list[Record]:
        return list(self.store.records(0, MAX_INTEGER))


GOOD = [make_good(number, 1000 * number) for number in range(10)]
BAD = [make_bad(number, 1000 * number + 500) for number in range(2, 10, 2)]
RECORDS = sorted(GOOD + BAD, key=lambda record: record.pair)


# -- a full quarantine -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [{"QUARANTINE_RECORDS": "2"}, {"QUARANTINE_BYTES": str(5 + 2 * (BAD[0].size + 200))}]
)
def test_a_full_quarantine_stops_the_sync_at_the_next_invalid_record(
    limit: dict[str, str],
) -> None:
    nodes = Nodes(RECORDS, **limit)
    for _ in range(3):
        report = nodes.sync()
        assert report.error_type == "QuarantineFull"
        assert f"{BAD[2].pair.timestamp}-{BAD[2].pair.hash} is invalid" in report.error
        assert "QUARANTINE_RECORDS" in report.error
        assert nodes.state.cursor == BAD[2].pair.timestamp
    assert [item.record.pair for item in nodes.store.quarantine()] == [r.pair for r in BAD[:2]]
    # What came in the same batch is kept; no window became shorter because of the error.
    assert {record.pair for record in nodes.held()} == {record.pair for record in GOOD}
    assert nodes.state.window is not None
    assert nodes.state.window >= 3_600_000


def test_the_sync_continues_once_there_is_room() -> None:
    nodes = Nodes(RECORDS, QUARANTINE_RECORDS="2")
    assert not nodes.sync().ok
    nodes.master.quarantine.delete(nodes.store.list_quarantine(None, 1)[0].id)
    assert not nodes.sync().ok
    assert nodes.state.cursor == BAD[3].pair.timestamp
    nodes.start_master(QUARANTINE_RECORDS="3")
    report = nodes.sync()
    assert (report.ok, report.behind_ms, report.set_aside) == (True, 0, 1)
    assert sorted(record.pair for record in nodes.held()) == [record.pair for record in GOOD]
    aside = sorted(item.record.pair for item in nodes.store.quarantine())
    assert aside == [BAD[0].pair, BAD[2].pair, BAD[3].pair]


def test_records_that_are_set_aside_already_need_no_room() -> None:
    nodes = Nodes(RECORDS, QUARANTINE_RECORDS="4")
    assert nodes.sync().ok
    lease = nodes.store.acquire_lease("test", nodes.clock.now(), 1000)
    nodes.store.save_slave(lease, "alpha", SlaveState())
    nodes.store.release_lease(lease)
    report = nodes.sync()
    assert (report.ok, report.behind_ms, report.set_aside) == (True, 0, 4)
    assert nodes.store.quarantine_size().records == 4


def test_a_hand_over_stores_the_valid_records_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The slave has no time left; what is refused is reported to it."""
    good = [make_good(number, number) for number in range(1200)]
    bad = [make_bad(number, 100 * number) for number in range(10)]
    nodes = Nodes(QUARANTINE_RECORDS="3")
    records = sorted(good + bad, key=lambda record: record.pair)
    report = nodes.master.accept("alpha", iter(records))
    assert (report.received, report.saved, report.set_aside) == (1210, 1200, 3)
    assert (report.refused, report.represented) == (7, 0)
    assert len(nodes.held()) == 1200
    assert "records are refused" in caplog.text


# -- release and deletion --------------------------------------------------------------------------


def test_a_released_record_is_stored_as_its_webhook() -> None:
    nodes = Nodes()
    bad = make_bad(1, 500)
    id_ = nodes.set_aside(bad)
    result = nodes.master.quarantine.release(id_)
    (record,) = nodes.held()
    hash_, meta = nodes.master.receiver.identifier.identify(bad.payload, bad.meta)
    assert record.pair == Pair(bad.pair.timestamp, hash_)
    assert (record.payload, record.meta) == (bad.payload, meta)
    assert record.meta.key
    assert record.recovery is not None
    assert (record.recovery.slave, record.recovery.at) == ("alpha", nodes.clock.now())
    assert (result.stored, result.webhook) == (True, f"{record.pair.timestamp}-{hash_}")
    assert nodes.store.quarantine_size() == (0, 0)
    with pytest.raises(NotFound):
        nodes.master.quarantine.release(id_)


def test_a_released_record_that_is_represented_is_not_stored() -> None:
    nodes = Nodes()
    id_ = nodes.set_aside(Record(Pair(START + 700, 5), GOOD[0].payload))
    hash_, meta = nodes.master.receiver.identifier.identify(GOOD[0].payload, Meta())
    nodes.store.append([Record(Pair(START, hash_), GOOD[0].payload, meta)])
    assert not nodes.master.quarantine.release(id_).stored
    assert len(nodes.held()) == 1
    assert nodes.store.quarantine_size() == (0, 0)


def test_a_released_record_of_the_future_gets_the_current_time() -> None:
    nodes = Nodes()
    future = make_good(1, 10**9)
    id_ = nodes.set_aside(future)
    assert "future" in nodes.master.quarantine.find(id_).reason
    nodes.master.quarantine.release(id_)
    (record,) = nodes.held()
    assert record.pair.timestamp == nodes.clock.now()
    assert record.payload == future.payload


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b'"text"'])
def test_a_payload_that_is_not_a_webhook_cannot_be_released(payload: bytes) -> None:
    nodes = Nodes()
    id_ = nodes.set_aside(make_bad(1, 500, payload))
    with pytest.raises(Conflict, match="is not a webhook"):
        nodes.master.quarantine.release(id_)
    assert nodes.master.quarantine.find(id_).record.payload == payload
    assert nodes.held() == []


def test_a_record_that_the_store_refuses_stays_in_the_quarantine() -> None:
    nodes = Nodes()
    id_ = nodes.set_aside(make_bad(1, 500))
    nodes.store.refused = "shop"
    with pytest.raises(RecordRefused):
        nodes.master.quarantine.release(id_)
    assert nodes.store.quarantine_size().records == 1
    nodes.store.refused = ""
    assert nodes.master.quarantine.release(id_).stored


def test_a_deleted_record_is_set_aside_again_if_it_is_compared_again() -> None:
    nodes = Nodes(RECORDS)
    assert nodes.sync().set_aside == 4
    for entry in nodes.store.list_quarantine(None, 10):
        nodes.master.quarantine.delete(entry.id)
    with pytest.raises(NotFound):
        nodes.master.quarantine.delete("alpha-1")
    nodes.clock.sleep(60)
    assert nodes.sync().set_aside == 0  # its cursor has passed them
    lease = nodes.store.acquire_lease("test", nodes.clock.now(), 1000)
    nodes.store.save_slave(lease, "alpha", SlaveState())
    nodes.store.release_lease(lease)
    assert nodes.sync().set_aside == 4


def test_a_page_names_the_next_one() -> None:
    nodes = Nodes(RECORDS)
    nodes.sync()
    first = nodes.master.quarantine.describe(None, 3)
    assert (first.records, len(first.items)) == (4, 3)
    rest = nodes.master.quarantine.describe(first.next, 3)
    assert (len(rest.items), rest.next) == (1, None)
    assert {item.id for item in (*first.items, *rest.items)} == {
        item.id for item in nodes.store.quarantine()
    }
