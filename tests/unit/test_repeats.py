"""Equal webhooks in one moment: none pushes the timestamps far ahead, each gets a durable pair."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import BufferFull, StoreError
from portable_core.ingest.buffer import Buffer
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.ingest.outcome import Outcome
from portable_core.ingest.repeats import COLLAPSE_MS
from portable_core.ingest.timestamps import MOST_LEAD_MS, find_most_lead
from portable_core.records import Meta, Pair, Record

START = 1_700_000_000_000
LIMITS = BufferLimits(commit_timeout_s=5, linger_s=0, records=100_000, bytes=100_000_000)
SAME = Meta(key="00000000000000000000000000000001")
SENDERS_PER_MS = 2.2


def make_key(number: int) -> Meta:
    return Meta(key=f"{number:032x}")


class Rig:
    """A buffer with a store that remembers what was appended, and fails with ``error``."""

    def __init__(self, limits: BufferLimits = LIMITS, *, keep_failed: bool = False) -> None:
        self.clock = SimulatedClock(START)
        self.stored: dict[Pair, Record] = {}
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.buffer = Buffer(self.append, self.clock, limits, 0, keep_failed=keep_failed)

    def append(self, records: Sequence[Record], deadline: float) -> None:
        assert self.gate.wait(5)
        if self.error is not None:
            raise self.error
        self.stored.update((record.pair, record) for record in records)

    def find_lead(self) -> int:
        return self.buffer.now() - self.clock.now()


def push(rig: Rig) -> None:
    """Send equal webhooks until repeats collapse."""
    while not rig.buffer.status().collapsed:
        rig.buffer.add(1, b"{}", SAME)


def test_one_sender_of_equal_webhooks_for_fifty_seconds() -> None:
    rig = Rig()
    futures: list[Outcome[Pair]] = []
    for number in range(50_000):
        rig.clock.sleep(0.001)
        for _ in range(round(SENDERS_PER_MS * (number + 1)) - round(SENDERS_PER_MS * number)):
            futures.append(rig.buffer.submit(1, b"{}", SAME))
        assert rig.find_lead() <= COLLAPSE_MS + 1
        if number % 100 == 0:
            rig.buffer.flush()
    rig.buffer.flush()
    assert len(futures) == 110_000
    assert {future.result() for future in futures} == set(rig.stored)
    assert rig.buffer.status().collapsed == len(futures) - len(rig.stored) > 50_000
    assert len(rig.buffer._repeats) <= COLLAPSE_MS + 2


def test_webhooks_that_share_a_hash_alone_are_all_kept_or_refused() -> None:
    rig = Rig()
    kept: list[Pair] = []
    refused = 0
    for number in range(10_000):
        if number % 2:
            rig.clock.sleep(0.001)
        try:
            kept.append(rig.buffer.add(1, b"{}", make_key(number)))
        except BufferFull:
            refused += 1
        if number % 1_000 == 0:
            rig.buffer.flush()
        assert rig.find_lead() <= MOST_LEAD_MS
    assert refused > 0
    assert len(rig.buffer._repeats) <= MOST_LEAD_MS + 2
    rig.buffer.add(2, b"{}", make_key(0))  # another hash is not refused
    rig.buffer.flush()
    assert len(set(kept)) == len(kept) == len(rig.stored) - 1
    assert rig.buffer.status().collapsed == 0


def test_an_equal_hash_with_another_key_gets_its_own_pair() -> None:
    rig = Rig()
    push(rig)
    pairs = [rig.buffer.add(1, b"{}", make_key(number)) for number in range(2, 10)]
    assert len(set(pairs)) == 8
    rig.buffer.flush()
    assert all(rig.stored[pair].meta.key != SAME.key for pair in pairs)


def test_a_webhook_without_a_key_never_collapses() -> None:
    rig = Rig()
    pairs = [rig.buffer.add(1, b"{}", Meta()) for _ in range(200)]
    assert len(set(pairs)) == 200


def test_a_repeat_waits_for_the_commit_and_shares_its_outcome() -> None:
    rig = Rig()
    push(rig)
    repeat = rig.buffer.submit(1, b"{}", SAME)
    assert not repeat.done()
    rig.error = StoreError("no space left")
    with pytest.raises(StoreError):
        rig.buffer.flush()
    with pytest.raises(StoreError, match="no space left"):
        repeat.result()
    rig.error = None
    again = rig.buffer.submit(1, b"{}", SAME)  # nothing is committed that it could share
    rig.buffer.flush()
    assert again.result() in rig.stored
    status = rig.buffer.status()
    late = rig.buffer.submit(1, b"{}", SAME)
    assert late.result() == again.result()  # at once: that one is durable
    assert rig.buffer.status().collapsed == status.collapsed + 1


def test_threads_that_wait_for_repeats() -> None:
    rig = Rig()
    push(rig)
    rig.gate.clear()
    with ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(rig.buffer.commit, 1, b"{}", SAME) for _ in range(15)]
        threads.submit(rig.buffer.flush)
        assert not any(future.done() for future in futures)
        rig.gate.set()
        assert {future.result(5) for future in futures} <= set(rig.stored)


def test_waiting_repeats_are_limited() -> None:
    rig = Rig(BufferLimits(5, 0, records=COLLAPSE_MS + 10, bytes=1_000_000))
    push(rig)
    futures = [rig.buffer.submit(1, b"{}", SAME) for _ in range(COLLAPSE_MS + 10)]
    with pytest.raises(BufferFull):
        rig.buffer.submit(1, b"{}", SAME)
    rig.buffer.flush()
    assert all(future.result() in rig.stored for future in futures)
    rig.buffer.submit(1, b"{}", SAME).result()


def test_an_early_200_collapses_too() -> None:
    rig = Rig(keep_failed=True)
    pairs = {rig.buffer.add(1, b"{}", SAME) for _ in range(1_000)}
    rig.error = StoreError("no space left")
    with pytest.raises(StoreError):
        rig.buffer.flush()
    pairs.add(rig.buffer.add(1, b"{}", SAME))
    rig.error = None
    rig.buffer.flush()
    assert pairs == set(rig.stored)
    assert rig.find_lead() <= COLLAPSE_MS + 1


def test_a_clock_that_was_set_back_refuses_nothing() -> None:
    rig = Rig()
    first = rig.buffer.add(7, b"{}", make_key(7))
    rig.clock.set(START - 3_600_000)
    for number in range(20_000):
        rig.buffer.add(number + 10, b"{}", make_key(number))
    assert rig.buffer.now() - first.timestamp <= 21
    pairs = [rig.buffer.add(1, b"{}", SAME) for _ in range(500)]
    assert pairs[-1].timestamp - pairs[0].timestamp <= COLLAPSE_MS + 1


@pytest.mark.parametrize(("span", "lead"), [(120_000, 2_000), (3_600_000, 2_000), (1_600, 100)])
def test_the_lead_is_far_below_a_quarter_of_the_span(span: int, lead: int) -> None:
    assert find_most_lead(span) == lead <= span / 16
