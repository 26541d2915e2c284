"""A master that waits for a silent slave keeps its lease, saves records, and can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.epochs import Stint
from portable_core.errors import LeaseHeld
from portable_core.ingest.receiver import Receiver
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, Tombstone, wait_on
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.master import LEASE_MS, Master
from portable_core.wire.negotiation import ENCODINGS

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
FIRST = 1_699_999_400_000  # ten minutes before the simulated clock


def make_record(number: int) -> Record:
    payload = b'{"number":%d}' % number
    hash_ = hash_payload(payload, "crc32c", b"")
    return Record(Pair(FIRST + number, hash_), payload, Meta())


class SilentSlave:
    """The port ``SlaveClient``: two records, with silence before, between and after them."""

    name = "alpha"

    def __init__(self, clock: SimulatedClock, half_seconds: int) -> None:
        self._clock = clock
        self._half_seconds = half_seconds
        self.look: Callable[[str], None] = lambda where: None

    def _stay_silent(self, where: str, keep_waiting: KeepWaiting) -> None:
        for _ in range(self._half_seconds):
            self._clock.sleep(0.5)
            keep_waiting()
        self.look(where)

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        self._stay_silent("describe", keep_waiting)
        now = self._clock.now()
        return SlaveInfo(UUID, 1, FIRST, now, now, 120_000, "crc32c", tuple(ENCODINGS))

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        raise AssertionError("no webhook was deleted")

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        b"".join(request.body)
        self._stay_silent("head", request.keep_waiting)

        def chunks() -> Iterator[bytes]:
            encoding = ENCODINGS[request.media_type]
            one, two, mark = encoding.encode_records([make_record(1), make_record(2)])
            for where, chunk in (("one", one), ("two", two), ("mark", mark)):
                yield chunk
                self._stay_silent(where, request.keep_waiting)

        yield SyncAnswer(UUID, 1, request.end, request.media_type, chunks())


class Rig:
    def __init__(self, half_seconds: int) -> None:
        self.clock = SimulatedClock()
        self.store = MemoryStore()
        env = {"STORE": "memory:", "SYNC_AUTH": "none", "SYNC_SLAVE_S": "100000"}
        settings = Settings.from_env("master", env | {"SYNC_BUDGET_S": "100000"})
        receiver = Receiver(settings, self.store, self.clock)
        self.slave = SilentSlave(self.clock, half_seconds)
        self.master = Master(receiver, self.store, [self.slave])

    def count(self) -> int:
        return len(list(self.store.pairs(0, MAX_INTEGER)))


def test_the_lease_is_renewed_during_silence() -> None:
    rig = Rig(half_seconds=3 * LEASE_MS // 500)
    looked = []

    def look(where: str) -> None:
        looked.append(where)
        with pytest.raises(LeaseHeld):
            rig.store.acquire_lease("another", rig.clock.now(), LEASE_MS)

    rig.slave.look = look
    report = rig.master.sync()
    assert report.ok
    assert set(looked) == {"describe", "head", "one", "two", "mark"}
    assert rig.count() == 2


def test_records_received_before_a_silence_are_saved_during_it() -> None:
    rig = Rig(half_seconds=3)
    counts: dict[str, int] = {}
    rig.slave.look = lambda where: counts.update({where: rig.count()})
    rig.master.sync()
    assert counts == {"describe": 0, "head": 0, "one": 1, "two": 2, "mark": 2}


@pytest.mark.parametrize("where", ["describe", "head", "one", "two"])
def test_a_stop_ends_the_waiting_in_order(where: str) -> None:
    rig = Rig(half_seconds=1)
    rig.slave.look = lambda here: rig.master.stop() if here == where else None
    report = rig.master.sync()
    (slave,) = report.slaves
    assert report.ok
    assert "the next one continues" in slave.warning
    # "one" and "two": what came is kept, and the cursor is at the last of it.
    kept = {"one": 1, "two": 2}.get(where, 0)
    # A stop is noticed when the next silence begins: one more record may have come by then.
    assert kept <= rig.count() <= kept + 1
    cursor = rig.store.slave_states()["alpha"].cursor
    assert (cursor or FIRST) <= FIRST + rig.count()
