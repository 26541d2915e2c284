"""The master: receives webhooks like a slave, and recovers from each slave those it lacks.

All records from other nodes are stored under one lease, so that two processes on one database never
store them at the same time. Syncs and hand-overs take turns: a sync gives way to a slave that is
being stopped and has only seconds left, and continues after it (:mod:`.turns`). If the slave hands
over to another process of the master, the sync ends instead.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from portable_core.errors import LeaseHeld, NotFound
from portable_core.ingest.receiver import Receiver
from portable_core.ports import MasterStore, SlaveClient, SlaveState
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.archiving import Archiving
from portable_core.sync.clocks import PeerClocks
from portable_core.sync.erasing import ErasedKeys, Erasing
from portable_core.sync.floor import drop_complete
from portable_core.sync.losses import Losses
from portable_core.sync.merge import RecordMerger, SyncContext, divide_records
from portable_core.sync.observer import Observer
from portable_core.sync.other_rules import OtherRules
from portable_core.sync.progress import Progress
from portable_core.sync.quarantine import Quarantine
from portable_core.sync.reconcile import find_missing
from portable_core.sync.report import HandOverReport, SlaveReport, SyncReport, read_report
from portable_core.sync.retention import ConsumerHold, MasterRetention
from portable_core.sync.slave_limits import SlaveLimits
from portable_core.sync.slave_sync import SlaveSync
from portable_core.sync.slaves import Slaves, adopt_state
from portable_core.sync.turns import Turns

#: How long a lease is valid without being renewed, and how often a running sync renews it.
LEASE_MS = 20_000
LEASE_RENEWAL_S = 5.0

#: The name of the mark that grows with each hand-over that finds the lease held by another process,
#: and how often a sync reads it.
HAND_OVER_MARK = "hand-overs-refused"
_MARK_INTERVAL_S = 1.0

_CLOSE_S = 2.0


class Master:
    """The role of the master around a receiver. Safe to use from any number of threads."""

    def __init__(
        self,
        receiver: Receiver,
        store: MasterStore,
        clients: Sequence[SlaveClient],
        *,
        observer: Observer | None = None,
        find_holds: Callable[[], list[ConsumerHold]] = list,
        drop_dead_letters: Callable[[str, str], int] = lambda id_, key: 0,
    ) -> None:
        """Make the role of the master.

        - ``find_holds``: returns what the registered consumers have not got.
        - ``drop_dead_letters``: drops those with an id or a key, and returns their number.
        """
        self.receiver = receiver
        self.clients = {client.name: client for client in clients}
        self._store = store
        self._settings = receiver.settings
        self._clock = receiver.clock
        self._holder = uuid.uuid4().hex
        self._turns = Turns(receiver.clock, self.clients)
        self._peer_clocks = PeerClocks()
        self._observer = observer or Observer()
        self._stopping = threading.Event()
        self.quarantine = Quarantine(receiver, store, self._hold, self._find_missing)
        self.losses = Losses(receiver, store, self._hold)
        self.erasing = Erasing(receiver, store, self._hold, drop_dead_letters)
        self._erased_keys = ErasedKeys(store)
        self.retention = MasterRetention(receiver, store, self.clients, self._hold_idle, find_holds)
        self.slaves = Slaves(store, self.clients, self._hold)
        self.archiving = Archiving(receiver, store, self.retention, self._hold_idle, self._hold)

    @property
    def store(self) -> MasterStore:
        return self._store

    def slave_states(self) -> dict[str, SlaveState]:
        """Return the state of each slave: of those in the settings and of those synced before."""
        self.receiver.open()
        states = self._store.slave_states()
        return {name: states.get(name, SlaveState()) for name in {**self.clients, **states}}

    def stop(self) -> None:
        """End a running sync in order at its next chunk, and start no other."""
        self._stopping.set()

    def wait_for_stop(self, seconds: float) -> bool:
        """Return whether the master stops, at the latest after so many seconds."""
        return self._stopping.wait(max(0.0, seconds))

    def close(self) -> None:
        """Stop, and wait up to two seconds for a running sync to end."""
        self.stop()
        self._turns.wait_until_free(_CLOSE_S)

    # -- syncing -------------------------------------------------------------------------------

    def sync(
        self,
        only: str | None = None,
        progress: Callable[[SlaveReport], None] = lambda report: None,
    ) -> SyncReport:
        """Recover from each slave, or ``only`` one, the records that this master lacks.

        ``progress`` is called with a slave's report as it grows. A slave's failure is in its report
        and stops no other slave. Raises ``NotFound`` for an unknown slave, ``LeaseHeld`` while
        another sync runs, ``LeaseLost`` and ``StoreError``.
        """
        if only is not None and only not in self.clients:
            known = ", ".join(self.clients) or "none"
            raise NotFound(f"slave: no slave has the name {only!r}; SLAVES has {known}")
        started, date = self._clock.monotonic(), self._clock.now()
        with self._turns.sync():
            deadline = self._clock.monotonic() + self._settings.sync_budget_ms / 1000
            with self._lease(self._watch_hand_overs()) as context:
                states = self._store.slave_states()
                chosen = [only] if only is not None else self._order(states)
                reports: list[SlaveReport] = []
                for name in chosen:
                    reason = self._find_reason_to_stop(context, deadline)
                    if context.interruptions:
                        states = self._store.slave_states()
                    state = states.get(name, SlaveState())
                    if reason:
                        reports.append(self._leave_out(name, state, reason))
                        continue
                    state = adopt_state(context, self.clients[name], states, self.clients)
                    limits = self._allot(deadline, first=not reports)
                    reports.append(self._sync_slave(context, name, state, limits, progress))
                self.retention.retain_in_sync(context.lease)
        report = SyncReport(date, self._clock.monotonic() - started, reports)
        self._observer.observe_sync(report)
        return report

    def _watch_hand_overs(self) -> Callable[[], bool]:
        """Return a function that returns whether no hand-over waits, here or in another process.

        Only those that may interrupt a sync count. A hand-over in another process is noticed by
        its next attempt, which raises the mark. The first reading, which a short sync does without,
        has nothing to be compared with.
        """
        store, clock = self._store, self._clock
        read_at = clock.monotonic()
        first: int | None = None
        newest = 0

        def may_go_on() -> bool:
            nonlocal read_at, first, newest
            if store.shared and clock.monotonic() - read_at >= _MARK_INTERVAL_S:
                read_at, newest = clock.monotonic(), store.mark(HAND_OVER_MARK)
                first = newest if first is None else first
            return not self._turns.wanted and (first is None or newest == first)

        return may_go_on

    def _order(self, states: dict[str, SlaveState]) -> list[str]:
        """Return the slaves, the one whose last turn began longest ago first.

        So no slave starves behind a slow one.
        """
        return sorted(
            self.clients, key=lambda name: read_report(states.get(name, SlaveState())).started
        )

    def _find_reason_to_stop(self, context: SyncContext, deadline: float) -> str:
        """Return why no further slave may begin; an empty text if one may."""
        if self._clock.monotonic() >= deadline:
            return "SYNC_BUDGET_S was used up"
        if not context.may_go_on() and not context.give_way():
            return "the sync gave way to a hand-over or a stop"
        return ""

    def _leave_out(self, name: str, state: SlaveState, reason: str) -> SlaveReport:
        """Return the report of a slave that did not get its turn.

        It is not saved, so that the slave is among the first next time. It is an error only if the
        slave is late.
        """
        last_turn = read_report(state).started
        late = 0 < last_turn < self._clock.now() - self._settings.console_late_ms
        progress = Progress(name, cursor=state.cursor)
        text = f"not begun: {reason}; it is among the first of the next sync"
        if late:
            progress.fail(text, "NotBegun")
        else:
            progress.warn(text)
        return progress.report()

    def _allot(self, deadline: float, *, first: bool) -> SlaveLimits:
        """Return the limits of the next slave. The ``first`` one always has a whole turn."""
        settings = self._settings
        own = self._clock.monotonic() + settings.sync_slave_ms / 1000
        return SlaveLimits(
            min(deadline, own),
            settings.sync_slave_records,
            settings.sync_slave_bytes,
            whole_turn=first or own <= deadline,
        )

    def _sync_slave(
        self,
        context: SyncContext,
        name: str,
        state: SlaveState,
        limits: SlaveLimits,
        progress: Callable[[SlaveReport], None],
    ) -> SlaveReport:
        sync = SlaveSync(context, self.clients[name], state, limits, progress)
        return sync.run(self.receiver.now, self.receiver.horizon())

    # -- hand-overs ----------------------------------------------------------------------------

    def accept(self, slave: str, records: Iterable[Record]) -> HandOverReport:
        """Store the records, in order of their pairs, that are not represented in the master.

        All of them are durable when it returns, except invalid ones that the quarantine has no room
        for; the report counts those. Raises ``MalformedStream`` for a wrong order,
        ``LeaseHeld``, and ``Unavailable`` if this process is busy. After an error the slave may
        send the same records again.
        """
        progress = Progress(slave)
        received = reached = 0
        with self._turns.request(slave):
            # Between two batches no lease is held: a slave that stalls delays no sync.
            for batch in divide_records(records):
                try:
                    with self._turns.hand_over(slave), self._lease(lambda: True) as context:
                        merger = RecordMerger(context, slave, reached, progress, refuse=True)
                        self._merge_batch(merger, drop_complete(self._store, slave, batch))
                except LeaseHeld:
                    self._interrupt_elsewhere(slave)
                    raise
                received += len(batch)
                reached = max(reached, merger.reached)
        saved, set_aside, refused = progress.saved, progress.set_aside, progress.refused
        represented = received - saved - set_aside - refused
        return HandOverReport(received, saved, represented, set_aside, refused)

    @contextmanager
    def _hold(self) -> Iterator[SyncContext]:
        """Hold the turn and the lease for a change by an operator, as a hand-over does."""
        with self._turns.hand_over(""), self._lease(lambda: True) as context:
            yield context

    @contextmanager
    def _hold_idle(self) -> Iterator[SyncContext]:
        """Hold the turn and the lease of a sync. Raises ``LeaseHeld`` while a sync runs."""
        with self._turns.sync(), self._lease(lambda: True) as context:
            yield context

    def _interrupt_elsewhere(self, slave: str) -> None:
        """Ask the sync of another process to end; it reads the mark soon."""
        if self._store.shared and self._turns.interrupt_elsewhere(slave):
            newest = self._store.mark(HAND_OVER_MARK)
            self._store.raise_mark(HAND_OVER_MARK, newest + 1)

    def _merge_batch(self, merger: RecordMerger, batch: Sequence[Record]) -> None:
        """Merge the records of a batch that are not represented in the master."""
        missing = self._find_missing([record.pair for record in batch]) if batch else set()
        latest = self.receiver.now() + self._settings.span_ms
        for record in batch:
            if record.pair in missing and record.pair.timestamp > latest:
                merger.quarantine(record, "its timestamp lies in the future")
                missing.discard(record.pair)
        merger.add([record for record in batch if record.pair in missing], MAX_INTEGER + 1)
        merger.save()

    def _find_missing(self, pairs: list[Pair]) -> set[Pair]:
        """Return the pairs that are not represented in the master's store.

        From now on, no webhook that this process receives gets one of these pairs.
        """
        # First reserve, then flush: what was received before is in the store.
        self.receiver.reserve(pairs)
        self.receiver.flush()
        span = self._settings.span_ms
        ordered = sorted(pairs)
        hashes = {pair.hash for pair in ordered}
        near = self._store.pairs(ordered[0].timestamp - span, ordered[-1].timestamp + span + 1)
        known = (pair for pair in near if pair.hash in hashes)
        batches = iter(lambda: list(islice(known, 4096)), [])
        return {pair for run in find_missing(ordered, batches, span) for pair in run}

    # -- the lease -----------------------------------------------------------------------------

    @contextmanager
    def _lease(self, wanted: Callable[[], bool]) -> Iterator[SyncContext]:
        """Hold the lease. ``may_go_on`` returns False once ``wanted`` does or the master stops."""
        self.receiver.open()
        clock, store = self._clock, self._store
        renewed = clock.monotonic()

        def may_go_on() -> bool:
            nonlocal renewed
            now = clock.monotonic()
            if now - renewed >= LEASE_RENEWAL_S:
                context.lease = store.renew_lease(context.lease, clock.now(), LEASE_MS)
                renewed = now
            return wanted() and not self._stopping.is_set()

        def give_way() -> bool:
            if self._stopping.is_set() or not self._turns.wanted:
                return may_go_on()
            store.release_lease(context.lease)
            self._turns.give_way()
            context.lease = store.acquire_lease(self._holder, clock.now(), LEASE_MS)
            context.interruptions += 1
            return True

        context = SyncContext(
            self._settings,
            store,
            clock,
            self.receiver.algorithm,
            self.receiver.identifier,
            store.acquire_lease(self._holder, clock.now(), LEASE_MS),
            may_go_on,
            give_way,
            OtherRules(store, self.receiver.identifier, self._settings.span_ms),
            self.receiver.recent_keys,
            self.receiver.store_uuid,
            self._peer_clocks,
            erased_keys=self._erased_keys.read(),
        )
        try:
            yield context
        finally:
            store.release_lease(context.lease)
