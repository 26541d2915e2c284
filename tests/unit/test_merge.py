"""Merging records from another node: a record that the store refuses represents no other one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import RecordRefused
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.plausible_clock import PlausibleClock
from portable_core.ingest.recent_keys import RecentKeys
from portable_core.payload_hash.canonical import hash_payload
from portable_core.ports import Lease
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sync import merge as module
from portable_core.sync.merge import RecordMerger, SyncContext
from portable_core.sync.other_rules import OtherRules
from portable_core.sync.progress import Progress

SPAN = 120_000
PAYLOAD = b'{"a":1}'


class PickyStore(MemoryStore):
    """Refuses what has a header ``x``, as a store does whose documents are limited."""

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        if any("x" in record.meta.headers for record in records):
            raise RecordRefused("its meta is too large")
        super().save_records(lease, records)


def make(time: int, *, refused: bool = False, payload: bytes = PAYLOAD) -> Record:
    meta = Meta("s", {"x": "large"}) if refused else Meta("s", {"y": "small"})
    return Record(Pair(time, hash_payload(payload)), payload, meta)


class Rig:
    def __init__(self) -> None:
        settings = Settings.from_env("master", {"STORE": "memory:", "SYNC_AUTH": "none"})
        self.store, clock = PickyStore(), SimulatedClock()
        self.store.open("crc32c-1")
        lease = self.store.acquire_lease("a", clock.now(), 60_000)
        identifier = Identifier("crc32c", b"", {})
        context = SyncContext(
            settings,
            self.store,
            PlausibleClock(clock, settings.span_ms),
            "crc32c-1",
            identifier,
            lease,
            lambda: True,
            lambda: False,
            OtherRules(self.store, identifier, settings.span_ms),
            RecentKeys(),
            "",
        )
        self.progress = Progress("alpha")
        self.merger = RecordMerger(context, "alpha", 0, self.progress)

    def add(self, *records: Record) -> None:
        self.merger.add(records, MAX_INTEGER)

    def ends(self) -> tuple[list[int], list[int], int]:
        """Return the timestamps in store and quarantine, and how many are represented."""
        self.merger.save()
        done = self.progress
        stored = [pair.timestamp for pair in self.store.pairs(0, MAX_INTEGER)]
        aside = [item.record.pair.timestamp for item in self.store.quarantine()]
        assert (done.saved, done.set_aside) == (len(stored), len(aside))
        assert sum(done.missed.values()) == done.saved
        assert done.records_received == done.saved + done.set_aside + done.represented
        return stored, sorted(aside), done.represented


def test_a_twin_is_saved_where_the_first_is_refused() -> None:
    rig = Rig()
    rig.add(make(1000, refused=True), make(6000), make(7000))
    assert rig.ends() == ([6000], [1000], 1)


def test_a_refused_twin_is_set_aside_too() -> None:
    rig = Rig()
    rig.add(make(1000, refused=True), make(6000, refused=True))
    assert rig.ends() == ([], [1000, 6000], 0)


def test_a_twin_in_place_represents_what_the_refused_one_did_not() -> None:
    rig = Rig()
    rig.add(make(1000, refused=True), make(SPAN), make(SPAN + 2000), make(3 * SPAN))
    assert rig.ends() == ([SPAN, 3 * SPAN], [1000], 1)


def test_a_twin_that_comes_after_the_refusal_is_saved() -> None:
    rig = Rig()
    rig.add(make(1000, refused=True), make(1001, payload=b"{}"))
    assert rig.ends() == ([1001], [1000], 0)
    rig.add(make(6000))
    assert rig.ends() == ([1001, 6000], [1000], 0)


def test_where_nothing_is_refused_twins_are_not_needed() -> None:
    rig = Rig()
    rig.add(make(1000), make(6000, refused=True))
    assert rig.ends() == ([1000], [], 1)
    rig.add(make(7000, refused=True))
    assert rig.ends() == ([1000], [], 2)


def test_few_twins_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_RECORDS", 10)
    rig = Rig()
    rig.add(*(make(time) for time in range(9)))
    assert rig.progress.saved == 0
    rig.add(make(9))
    assert rig.progress.saved == 1
    assert rig.ends() == ([0], [], 9)
