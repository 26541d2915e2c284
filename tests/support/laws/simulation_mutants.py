"""The rules, removed one at a time: each function returns the parts of a world without one rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from msgspec import structs

import portable_core.ingest.buffer
import portable_core.sync.master_marks
import portable_core.sync.merge
import portable_core.sync.resuming
import portable_core.sync.slave
import portable_core.sync.slave_sync
from loadtests.simulation.disk import Disk
from loadtests.simulation.network import SimulatedClient
from loadtests.simulation.nodes import CoreParts
from loadtests.simulation.process_store import ProcessStore
from portable_core.errors import StoreError, StreamCut
from portable_core.ingest.buffer import Buffer
from portable_core.ingest.pending import PendingBatch
from portable_core.ingest.receiver import HORIZON_MARK, Receiver
from portable_core.ingest.timestamps import Timestamps
from portable_core.ports import (
    ALL_HASHES,
    Lease,
    Milliseconds,
    SlaveInfo,
    SyncAnswer,
    SyncRequest,
)
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.master import Master
from portable_core.sync.master_marks import MasterMarks
from portable_core.sync.merge import RecordMerger, SyncContext
from portable_core.sync.reconcile import find_missing
from portable_core.sync.slave import Slave
from portable_core.sync.slave_sync import SlaveSync
from portable_core.sync.windows import Step, WindowPlan
from portable_core.wire.negotiation import Reader
from tests.support.laws.clock_mutants import CLOCK_MUTANTS, Mutant
from tests.support.laws.stint_mutants import STINT_MUTANTS


def cursor_before_records(patch: pytest.MonkeyPatch) -> CoreParts:
    """The cursor is saved before the records that lie behind it."""
    exchange = SlaveSync._exchange

    def early(self: SlaveSync, step: Step, *rest: Any) -> Any:
        state = self._state
        self._state = replace(state, cursor=step.end)
        self._save_state()
        self._state = state
        return exchange(self, step, *rest)

    patch.setattr(SlaveSync, "_exchange", early)
    return CoreParts()


def lease_per_slave(patch: pytest.MonkeyPatch) -> CoreParts:
    """Two masters may sync at once if they sync different slaves."""

    class LenientDisk(Disk):
        """Grants every lease; only the same slave's state is guarded by the newest one."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._leases: dict[str, Lease] = {}
            self._tokens = 0

        def acquire_lease(self, holder: str, now: int, ttl: int) -> Lease:
            self._tokens += 1
            return Lease(self._tokens, holder, now + ttl)

        def _check_lease(self, lease: Lease) -> None:
            self._check_open()

        def renew_lease(self, lease: Lease, now: int, ttl: int) -> Lease:
            return lease

        def release_lease(self, lease: Lease) -> None:
            pass

    held: set[str] = set()
    sync_slave = Master._sync_slave

    def guarded(self: Master, context: SyncContext, name: str, *rest: Any) -> Any:
        key = f"{id(context.store.disk)}/{name}"  # type: ignore[attr-defined]  # simulated
        if key in held:
            raise portable_core.errors.LeaseHeld("another sync of this slave is running")
        held.add(key)
        try:
            return sync_slave(self, context, name, *rest)
        finally:
            held.discard(key)

    patch.setattr(Master, "_sync_slave", guarded)
    return CoreParts(disk=LenientDisk)


def end_from_the_clock(patch: pytest.MonkeyPatch) -> CoreParts:
    """The window ends a span before now, whatever waits to be committed."""
    run = SlaveSync.run

    def hurried(self: SlaveSync, now: Callable[[], int], horizon: int) -> Any:
        return run(self, now, now())

    patch.setattr(SlaveSync, "run", hurried)
    return CoreParts()


def truncated_request_as_whole(patch: pytest.MonkeyPatch) -> CoreParts:
    """A request that ends without its mark counts as whole."""

    class Trusting(SimulatedClient):
        def read_pairs(self, reader: Reader[Pair], chunks: Any) -> Iterator[list[Pair]]:
            try:
                yield from super().read_pairs(reader, chunks)
            except StreamCut:
                return

    return CoreParts(client=Trusting)


def cut_answer_as_whole(patch: pytest.MonkeyPatch) -> CoreParts:
    """An answer that ends without its mark counts as whole."""
    read = SlaveSync._read_answer

    def trusting(self: SlaveSync, *args: Any) -> None:
        with suppress(StreamCut):
            read(self, *args)

    patch.setattr(SlaveSync, "_read_answer", trusting)
    return CoreParts()


def wrong_hash_dropped(patch: pytest.MonkeyPatch) -> CoreParts:
    """A record whose hash is wrong is forgotten."""
    patch.setattr(RecordMerger, "quarantine", lambda self, record, reason: None)
    return CoreParts()


def generation_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A slave's store is the same as long as its identity is."""

    class Forgetful(SimulatedClient):
        def describe(self, *args: Any) -> SlaveInfo:
            return structs.replace(super().describe(*args), generation=1)

        @contextmanager
        def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
            with super().exchange(request) as answer:
                yield replace(answer, generation=1)

    return CoreParts(client=Forgetful)


def horizon_not_durable(patch: pytest.MonkeyPatch) -> CoreParts:
    """A node forgets over a restart which horizon it has reported."""

    class Forgetful(ProcessStore):
        def raise_mark(self, name: str, value: int) -> int:
            return value if name == HORIZON_MARK else super().raise_mark(name, value)

    return CoreParts(store=Forgetful)


def floor_not_kept(patch: pytest.MonkeyPatch) -> CoreParts:
    """Timestamps follow the clock also when it goes back."""

    assigned: WeakKeyDictionary[Timestamps, set[Pair]] = WeakKeyDictionary()

    def next_pair(self: Timestamps, hash_: int) -> Pair:
        used = assigned.setdefault(self, set())
        pair = Pair(self._clock.now(), hash_)
        while pair in used:
            pair = Pair(pair.timestamp + 1, hash_)
        used.add(pair)
        return pair

    patch.setattr(Timestamps, "next", next_pair)
    return CoreParts()


def waiting_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """The horizon is the clock, whatever waits to be committed."""
    patch.setattr(PendingBatch, "oldest", property(lambda self: None))
    return CoreParts()


def doubt_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A batch that failed counts as if it could never appear."""
    horizon = Buffer.commit_horizon

    def sure(self: Buffer) -> int:
        self._in_doubt = None
        return horizon(self)

    patch.setattr(Buffer, "doubt", None)
    patch.setattr(Buffer, "commit_horizon", sure)
    return CoreParts()


def span_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A payload is represented only by a pair of the very same moment."""

    def find(
        ours: Iterable[Pair], theirs: Iterable[Sequence[Pair]], span: int, *, max_held: int
    ) -> object:
        return find_missing(ours, theirs, 0, max_held=max_held)

    patch.setattr(portable_core.sync.slave, "find_missing", find)
    return CoreParts()


def margins_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A request carries the master's pairs of the window alone, not a span on either side."""

    class Narrow(ProcessStore):
        def pairs(self, start: int, end: int) -> Iterator[Pair]:
            span = 60_000
            return super().pairs(start + span, end - span)

    def make(disk: Disk, *rest: Any) -> ProcessStore:
        return (Narrow if disk.uuid.endswith("01") else ProcessStore)(disk, *rest)

    return CoreParts(store=make)


def slave_horizon_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """The cursor moves to the window's end, whatever waits to be committed at the slave."""

    class Generous(SimulatedClient):
        def describe(self, *args: Any) -> SlaveInfo:
            return structs.replace(super().describe(*args), horizon=MAX_INTEGER)

        @contextmanager
        def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
            with super().exchange(request) as answer:
                yield replace(answer, through=MAX_INTEGER)

    return CoreParts(client=Generous)


def lease_not_fenced(patch: pytest.MonkeyPatch) -> CoreParts:
    """A sync that has lost its lease continues to write."""
    patch.setattr(Disk, "_check_lease", lambda self, lease: self._check_open())
    return CoreParts()


def hand_over_without_lease(patch: pytest.MonkeyPatch) -> CoreParts:
    """The records of a stopping slave are stored without the lease."""

    class Eager(Master):
        def accept(self, *args: Any) -> Any:
            disk = self._store.disk  # type: ignore[attr-defined]  # a simulated one
            lease, disk._lease = disk._lease, Lease(disk._lease.token, "", 0)
            try:
                return super().accept(*args)
            finally:
                disk._lease = lease

    return CoreParts(master=Eager)


def retention_ignores_the_master(patch: pytest.MonkeyPatch) -> CoreParts:
    """Old records are removed, whether a master's cursor has passed them or not."""

    class Careless(Slave):
        def retain(self, *, now: bool = False) -> None:
            aged = self.receiver.clock.now() - self.receiver.settings.retention_ms
            with suppress(StoreError):
                self.receiver.store.prune(aged)

    return CoreParts(slave=Careless)


def marks_outlive_generations(patch: pytest.MonkeyPatch) -> CoreParts:
    """Records before a master's cursor stay removable when they have come back since."""
    patch.setattr(
        portable_core.sync.master_marks,
        "_format_name",
        lambda generation, master: f"asked-1-{master}" if master else "asked-1",
    )
    find_all = MasterMarks.find_all
    patch.setattr(
        MasterMarks, "find_all", lambda self, info: find_all(self, replace(info, generation=1))
    )
    return CoreParts()


def any_epoch_is_asked(patch: pytest.MonkeyPatch) -> CoreParts:
    """A window is requested without the epoch of the slave's store in which it begins."""

    class Vague(SimulatedClient):
        @contextmanager
        def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
            with super().exchange(replace(request, epoch=None)) as answer:
                yield answer

    return CoreParts(client=Vague)


def damage_reaches_no_span_back(patch: pytest.MonkeyPatch) -> CoreParts:
    """A cursor is set back to the first record that the master lost, and no further."""

    def make(uuid: str, *, shared: bool, reach: Milliseconds) -> Disk:
        return Disk(uuid, shared=shared, reach=0)

    return CoreParts(disk=make)


def recent_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """Two records of one answer that represent each other are both stored."""
    sort = RecordMerger._sort

    def forgetful(self: RecordMerger, record: Record) -> None:
        self._recent = {}
        sort(self, record)

    patch.setattr(RecordMerger, "_sort", forgetful)
    return CoreParts()


def reached_before_saved(patch: pytest.MonkeyPatch) -> CoreParts:
    """After a cut the cursor moves over everything received, saved or not."""

    def save(self: RecordMerger) -> None:
        if self._records and len(self._records) < 3:
            self._records = []
        whole_save(self)

    whole_save = RecordMerger.save
    patch.setattr(RecordMerger, "save", save)
    return CoreParts()


def parts_moved_past_at_once(patch: pytest.MonkeyPatch) -> CoreParts:
    """The cursor moves to the end of a window after its first part."""
    advance = WindowPlan.advance

    def early(self: WindowPlan, step: Step, *rest: int) -> None:
        advance(self, step._replace(hashes=ALL_HASHES), *rest)

    patch.setattr(WindowPlan, "advance", early)
    return CoreParts()


def parts_outlive_losses(patch: pytest.MonkeyPatch) -> CoreParts:
    """A master that has lost records sets cursors back and keeps the parts that are done."""

    class Careless(Disk):
        def _set_back(self, lost_from: Milliseconds) -> None:
            parts = {name: state.part for name, state in self._slaves.items()}
            super()._set_back(lost_from)
            for name, state in self._slaves.items():
                self._slaves[name] = replace(state, part=parts[name])

    return CoreParts(disk=Careless)


def other_writers_ignored(patch: pytest.MonkeyPatch) -> CoreParts:
    """A writer of a shared store never reads the horizon that another one has reported."""
    patch.setattr(Receiver, "_follow_other_writers", lambda self, buffer: None)
    return CoreParts()


MUTANTS: Sequence[Mutant] = (
    cursor_before_records,
    lease_per_slave,
    end_from_the_clock,
    truncated_request_as_whole,
    cut_answer_as_whole,
    wrong_hash_dropped,
    generation_ignored,
    horizon_not_durable,
    floor_not_kept,
    waiting_ignored,
    doubt_ignored,
    span_ignored,
    margins_ignored,
    slave_horizon_ignored,
    lease_not_fenced,
    hand_over_without_lease,
    retention_ignores_the_master,
    marks_outlive_generations,
    any_epoch_is_asked,
    damage_reaches_no_span_back,
    recent_ignored,
    reached_before_saved,
    parts_moved_past_at_once,
    parts_outlive_losses,
    other_writers_ignored,
    *CLOCK_MUTANTS,
    *STINT_MUTANTS,
)
