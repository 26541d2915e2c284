"""Group commit: when a webhook is acknowledged, and which error it gets when the store fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import BatchTooLate, BufferFull, Stopping, StoreError
from portable_core.ingest.buffer import Buffer
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.ports import Clock
from portable_core.records import Meta, Pair, Record

LIMITS = BufferLimits(commit_timeout_s=5, linger_s=0.002, records=1000, bytes=1_000_000)
META = Meta()


class Disk:
    """Remembers what was appended; fails with ``error``, and hangs while ``gate`` is clear."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def append(self, records: Sequence[Record], deadline: float) -> None:
        self.entered.set()
        if not self.gate.wait(deadline):
            raise StoreError("the disk hangs")
        if self.error is not None:
            raise self.error
        self.batches.append(list(records))

    @property
    def pairs(self) -> list[Pair]:
        return [record.pair for batch in self.batches for record in batch]


def make(disk: Disk, clock: Clock | None = None, limits: BufferLimits = LIMITS) -> Buffer:
    return Buffer(disk.append, clock or SystemClock(), limits, floor=0)


def test_every_sender_gets_its_own_pair_and_batches_are_shared() -> None:
    disk = Disk()
    buffer = make(disk)
    with ThreadPoolExecutor(32) as threads:
        pairs = list(threads.map(lambda n: buffer.commit(n % 3, b"{}", META), range(2000)))
    assert sorted(pairs) == sorted(disk.pairs)
    assert len(set(pairs)) == 2000
    assert [p.timestamp for p in disk.pairs] == sorted(p.timestamp for p in disk.pairs)
    assert len(disk.batches) < 1000
    assert buffer.status().records == buffer.status().bytes == 0


def test_no_commit_returns_before_the_append() -> None:
    disk = Disk()
    disk.gate.clear()
    buffer = make(disk)
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(buffer.commit, n, b"{}", META) for n in range(8)]
        assert disk.entered.wait(5)
        done, _ = wait(futures, timeout=0.05)
        assert not done
        disk.gate.set()
        assert {future.result(5).hash for future in futures} == set(range(8))


def test_a_failing_store_fails_its_batch_and_the_next_one_succeeds() -> None:
    disk = Disk()
    buffer = make(disk)
    disk.error = StoreError("no space left")
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(buffer.commit, n, b"{}", META) for n in range(8)]
        for future in futures:
            with pytest.raises(StoreError, match="no space left"):
                future.result(5)
    disk.error = None
    assert buffer.commit(9, b"{}", META) == disk.pairs[0]


def test_a_hanging_store_fails_every_record_within_the_commit_timeout() -> None:
    disk = Disk()
    disk.gate.clear()
    buffer = make(disk, limits=BufferLimits(0.2, 0, 1000, 1_000_000))
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(buffer.commit, n, b"{}", META) for n in range(8)]
        for future in futures:
            with pytest.raises(StoreError):
                future.result(10)
    disk.gate.set()
    assert buffer.commit(9, b"{}", META).hash == 9
    assert buffer.status().records == 0


def test_a_commit_that_comes_too_late_acknowledges_nothing() -> None:
    clock = SimulatedClock()

    def slow(records: Sequence[Record], deadline: float) -> None:
        clock.sleep(6)

    buffer = Buffer(slow, clock, LIMITS, floor=0)
    with pytest.raises(BatchTooLate):
        buffer.commit(1, b"{}", META)


def test_an_unexpected_error_reaches_its_thread_and_blocks_no_other() -> None:
    disk = Disk()
    buffer = make(disk)
    disk.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        buffer.commit(1, b"{}", META)
    disk.error = None
    assert buffer.commit(2, b"{}", META).hash == 2


def test_a_full_buffer_rejects() -> None:
    disk = Disk()
    buffer = make(disk, limits=BufferLimits(5, 0, records=2, bytes=100))
    first = buffer.submit(1, b"x" * 60, META)
    with pytest.raises(BufferFull):
        buffer.submit(2, b"x" * 60, META)
    second = buffer.submit(2, b"x", META)
    with pytest.raises(BufferFull):
        buffer.submit(3, b"x", META)
    buffer.flush()
    assert (first.result().hash, second.result().hash) == (1, 2)
    buffer.submit(3, b"x" * 1000, META)  # a single one may have any size


def test_headers_fill_the_buffer_too() -> None:
    buffer = make(Disk(), limits=BufferLimits(5, 0, records=1000, bytes=1000))
    buffer.submit(1, b"{}", Meta("crm", {"user-agent": "x" * 900}))
    assert buffer.status().bytes == 2 + 3 + 10 + 900
    with pytest.raises(BufferFull):
        buffer.submit(2, b"{}", Meta("crm", {"user-agent": "x" * 900}))
    buffer.flush()
    assert buffer.status().bytes == 0


def test_a_flush_resolves_outcomes() -> None:
    disk = Disk()
    buffer = make(disk)
    futures = [buffer.submit(n, b"{}", META) for n in range(5)]
    assert not any(future.done() for future in futures)
    buffer.flush()
    assert [future.result() for future in futures] == disk.pairs
    assert len(disk.batches) == 1


def test_closing_commits_what_is_pending_and_accepts_no_more() -> None:
    disk = Disk()
    buffer = make(disk)
    future = buffer.submit(1, b"{}", META)
    buffer.close(5)
    assert disk.pairs == [future.result()]
    with pytest.raises(Stopping):
        buffer.submit(2, b"{}", META)
    buffer.close(5)


def test_kept_records_survive_a_failing_store() -> None:
    disk = Disk()
    buffer = Buffer(disk.append, SystemClock(), LIMITS, 0, keep_failed=True)
    pairs = [buffer.add(n, b"{}", META) for n in range(3)]
    disk.error = StoreError("no space left")
    with pytest.raises(StoreError):
        buffer.flush()
    pairs.append(buffer.add(3, b"{}", META))
    disk.error = None
    buffer.flush()
    assert disk.pairs == pairs


def test_the_horizon_is_the_oldest_pending_record_else_the_clock() -> None:
    clock, disk = SimulatedClock(5_000), Disk()
    buffer = make(disk, clock)
    assert buffer.commit_horizon() == 5_000
    clock.set(6_000)
    buffer.submit(1, b"{}", META)
    clock.set(9_000)
    assert buffer.commit_horizon() == 6_000
    buffer.flush()
    assert buffer.commit_horizon() >= 9_000


def test_the_horizon_waits_while_a_batch_is_being_committed() -> None:
    disk = Disk()
    disk.gate.clear()
    buffer = make(disk)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(buffer.commit, 1, b"{}", META)
        assert disk.entered.wait(5)
        horizon = buffer.commit_horizon()
        disk.gate.set()
        assert future.result(5).timestamp >= horizon


def test_the_horizon_stands_still_while_a_batch_is_in_doubt() -> None:
    clock, disk = SimulatedClock(5_000), Disk()
    buffer = make(disk, clock)
    disk.error = StoreError("the outcome is unknown")
    with pytest.raises(StoreError):
        buffer.commit(1, b"{}", META)
    clock.set(60_000)
    doubt = buffer.doubt
    assert doubt is not None
    assert buffer.commit_horizon() == 5_000
    disk.error = None
    buffer.commit(2, b"{}", META)
    assert buffer.doubt is None
    assert buffer.commit_horizon() >= 60_000


def test_a_proof_clears_no_doubt_that_came_after_it() -> None:
    clock, disk = SimulatedClock(5_000), Disk()
    buffer = make(disk, clock)
    disk.error = StoreError("the outcome is unknown")
    with pytest.raises(StoreError):
        buffer.commit(1, b"{}", META)
    doubt = buffer.doubt
    assert doubt is not None
    with pytest.raises(StoreError):
        buffer.commit(2, b"{}", META)
    buffer.clear_doubt(doubt)
    clock.set(60_000)
    assert buffer.commit_horizon() == 5_000


def test_reserved_pairs_are_not_assigned() -> None:
    clock, disk = SimulatedClock(5_000), Disk()
    buffer = make(disk, clock)
    buffer.reserve([Pair(5_003, 7), Pair(5_004, 7), Pair(4_000, 7)])
    clock.set(5_003)
    assert buffer.add(7, b"{}", META) == Pair(5_005, 7)
    assert buffer.add(8, b"{}", META) == Pair(5_005, 8)


def test_a_record_committed_before_its_thread_waits_is_acknowledged_at_once() -> None:
    disk = Disk()
    buffer = make(disk)
    early, _ = buffer._admit(1, b"{}", META)
    buffer.flush()
    disk.gate.clear()
    disk.entered.clear()
    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(buffer.commit, 2, b"{}", META)
        assert disk.entered.wait(5)
        try:
            threads.submit(buffer._wait, early).result(timeout=4)
        finally:
            disk.gate.set()
        leader.result(5)
    assert early.error is None
    assert early.record.pair == disk.pairs[0]
