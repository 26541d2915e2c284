"""Retention on a master: whole hours are removed, the oldest first.

Nothing is removed that a configured slave is not complete past, or that a registered consumer has
not got. A consumer that was abandoned does not fill the disk: after ``CONSUMER_EXPIRY_S`` retention
no longer waits for it, and for all consumers together it keeps at most ``CONSUMER_QUOTA_BYTES``.
What a consumer has missed so is durable, until the consumer is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from portable_core.errors import LeaseHeld, StoreError, WebhookSyncError
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Lease, MasterStore, Milliseconds, SlaveState
from portable_core.records import MAX_INTEGER
from portable_core.sync.completeness import removable_until
from portable_core.sync.floor import FLOOR, read_floor
from portable_core.sync.quarantine import Hold
from portable_core.sync.report import HOUR_MS
from portable_core.sync.resuming import format_moment

logger = logging.getLogger(__name__)

#: The most items of the quarantine that are looked at in one go.
_MOST_ITEMS = 1000

#: The prefix of the marks of consumers that have missed records: the end of what was removed.
MISSED = "missed-"

#: Seconds between two times, and since the last sync before a master with slaves does it alone.
_INTERVAL_S = 60.0
_WITHOUT_SYNC_S = 300.0

#: The name of the master itself among those that retention waits for.
ITSELF = ""


class ConsumerHold(NamedTuple):
    """What a registered consumer has not got.

    - ``start``: no such record lies before it; None without any.
    - ``idle_ms``: for how long the consumer has not moved, although it has something to get.
    """

    name: str
    start: Milliseconds | None
    idle_ms: Milliseconds = 0


class Wait(NamedTuple):
    """A slave or a consumer that retention waits for; ``until`` is how far it has got."""

    name: str
    until: Milliseconds
    is_consumer: bool
    idle_ms: Milliseconds = 0


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """``cut``: records before it are removed. ``missed``: consumers that have not got some of them.

    ``waits``: what keeps records that are due.
    """

    cut: Milliseconds
    missed: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()


def plan_removal(
    due: Milliseconds,
    complete: Mapping[str, Milliseconds],
    holds: Sequence[ConsumerHold],
    expiry_ms: Milliseconds,
    find_quota_cut: Callable[[Milliseconds], Milliseconds],
) -> RemovalPlan:
    """Return what retention removes, and what it waits for.

    - ``due``: the limits ask for the removal of all records before it.
    - ``complete``: by slave, the time before which it needs no record of the master; under
      :data:`ITSELF` that of the master.
    - ``find_quota_cut``: returns the time before which records are removed although consumers have
      not got them, if those before a time may be removed otherwise.
    """
    due = floor_hour(due)
    safe = floor_hour(min([due, *complete.values()]))
    behind = [hold for hold in holds if hold.start is not None and floor_hour(hold.start) < safe]
    waiting = [hold for hold in behind if hold.idle_ms < expiry_ms]
    kept = min([safe, *(floor_hour(hold.start or 0) for hold in waiting)])
    if kept < safe:
        kept = max(kept, min(safe, floor_hour(find_quota_cut(safe))))
    missed = tuple(hold.name for hold in behind if (hold.start or 0) < kept)
    waits = [
        Wait(name, until, is_consumer=False)
        for name, until in complete.items()
        if floor_hour(until) < due
    ]
    waits += [
        Wait(hold.name, hold.start or 0, is_consumer=True, idle_ms=hold.idle_ms)
        for hold in waiting
        if hold.name not in missed
    ]
    return RemovalPlan(kept, missed, tuple(waits))


def floor_hour(time: Milliseconds) -> Milliseconds:
    """Return the start of the hour of a time."""
    return max(time, 0) // HOUR_MS * HOUR_MS


class MasterRetention:
    """The retention of one master. Safe to use from any thread."""

    def __init__(
        self,
        receiver: Receiver,
        store: MasterStore,
        slaves: Collection[str],
        hold: Hold,
        find_holds: Callable[[], list[ConsumerHold]],
    ) -> None:
        """Make the retention of a master.

        - ``slaves``: the names in ``SLAVES``.
        - ``hold``: holds turn and lease; raises ``LeaseHeld`` while a sync runs.
        - ``find_holds``: returns what the registered consumers have not got.
        """
        self._receiver = receiver
        self._settings = receiver.settings
        self._store = store
        self._slaves = slaves
        self._hold = hold
        self._find_holds = find_holds
        self._ran_at = receiver.clock.monotonic()
        self._has_run = False
        self._waits: tuple[Wait, ...] = ()

    def retain(self, *, now: bool = False) -> None:
        """Remove what is due, if no sync has done so lately. ``now``: without waiting."""
        pause_s = _WITHOUT_SYNC_S if self._slaves else _INTERVAL_S
        if self._is_due(0 if now else pause_s):
            try:
                with self._hold() as context:
                    self._run(context.lease)
            except LeaseHeld:
                pass  # the sync that runs does it
            except WebhookSyncError as error:
                logger.warning("retention is postponed: %s", error)

    def retain_in_sync(self, lease: Lease) -> None:
        """Remove what is due, at first and once a minute. The caller holds turn and lease."""
        if self._is_due(_INTERVAL_S if self._has_run else 0):
            try:
                self._run(lease)
            except StoreError as error:
                logger.warning("retention is postponed: %s", error)

    def plan_before(self, before: Milliseconds) -> RemovalPlan:
        """Return what of the records before a time nothing needs any more, not even a consumer."""
        holds = self._find_holds()
        return plan_removal(before, self._find_complete(), holds, MAX_INTEGER, lambda safe: 0)

    def remove(self, cut: Milliseconds) -> None:
        """Remove the records before a time. The caller holds turn and lease."""
        self._remove(RemovalPlan(cut))
        while (self._store.first() or cut) < cut and self._store.prune(cut):
            pass  # one call may remove only a part

    def describe_waits(self) -> dict[str, str]:
        """Return by slave or consumer, for people, why records that are due are kept."""
        texts: dict[str, str] = {}
        for wait in self._waits:
            text = describe_wait(wait, self._settings.consumer_expiry_ms)
            texts[wait.name] = "; ".join(filter(None, (texts.get(wait.name), text)))
        return texts

    def _is_due(self, pause_s: float) -> bool:
        settings = self._settings
        limits = (settings.retention_bytes, settings.quarantine_ms)
        enabled = settings.retention_ms < MAX_INTEGER or limits != (None, None)
        return enabled and self._receiver.clock.monotonic() - self._ran_at >= pause_s

    def _run(self, lease: Lease) -> None:
        self._ran_at, self._has_run = self._receiver.clock.monotonic(), True
        if self._settings.quarantine_ms is not None:
            self._empty_quarantine(lease, self._settings.quarantine_ms)
        if self._settings.retention_ms < MAX_INTEGER or self._settings.retention_bytes is not None:
            self._remove_due()

    def _empty_quarantine(self, lease: Lease, keep_ms: Milliseconds) -> None:
        """Delete what has been in quarantine for so long, at most some of it at a time."""
        before = self._receiver.clock.now() - keep_ms
        items = islice(self._store.quarantine(), _MOST_ITEMS)
        old = [item.id for item in items if item.at < before]
        for id_ in old:
            self._store.delete_quarantined(lease, id_)
        if old:
            logger.warning("QUARANTINE_S: %d records in quarantine were deleted", len(old))

    def _remove_due(self) -> None:
        store, settings = self._store, self._settings
        due, first = self._find_due(self._receiver.clock.now()), store.first()
        if first is None or floor_hour(due) <= first:
            self._waits = ()
            return
        quota = settings.consumer_quota_bytes
        plan = plan_removal(
            due,
            self._find_complete(),
            self._find_holds(),
            settings.consumer_expiry_ms,
            lambda safe: 0 if quota is None else store.find_size_cut(quota, safe),
        )
        self._waits = plan.waits
        if plan.cut > first:
            self._remove(plan)

    def _find_due(self, now: Milliseconds) -> Milliseconds:
        """Return the time before which all records are to be removed."""
        limit, due = self._settings.retention_bytes, now - self._settings.retention_ms
        if limit is None:
            return due
        return max(due, self._store.find_size_cut(limit, MAX_INTEGER))

    def _find_complete(self) -> dict[str, Milliseconds]:
        """Return, by slave, the time before which no record of the master represents a record that
        may still be compared.
        """
        span, floor = self._settings.span_ms, read_floor(self._store)
        states = self._store.slave_states()
        complete = {
            name: removable_until(states.get(name, SlaveState()), floor) - span
            for name in self._slaves
        }
        return {**complete, ITSELF: self._receiver.horizon() - span}

    def _remove(self, plan: RemovalPlan) -> None:
        # In this order: an interruption hides neither a missed record nor a removed one.
        until = format_moment(plan.cut)
        for name in plan.missed:
            self._store.set_mark(f"{MISSED}{name}", plan.cut)
            logger.error(
                "retention removes records before %s that the consumer %s has not got", until, name
            )
        self._store.raise_mark(FLOOR, plan.cut + self._settings.span_ms)
        if self._store.prune(plan.cut):
            logger.info("retention removed the records before %s", until)


def describe_wait(wait: Wait, expiry_ms: Milliseconds) -> str:
    """Return, for people, why records that are due are kept."""
    until = format_moment(wait.until)
    if not wait.is_consumer:
        return f"records are kept: complete only up to {until}"
    if expiry_ms == MAX_INTEGER:
        return f"has got the records before {until} only"
    rest_h = max(expiry_ms - wait.idle_ms, 0) / HOUR_MS
    return (
        f"retention keeps the records from {until} on for this consumer, and no longer than "
        f"{rest_h:.0f} hours if it does not move"
    )


def read_missed(store: MasterStore) -> dict[str, Milliseconds]:
    """Return, by name, the consumers that have missed records, and the end of what was removed."""
    return {name.removeprefix(MISSED): end for name, end in store.marks(MISSED).items()}


def forget_missed(store: MasterStore, name: str) -> None:
    """Forget what a consumer has missed, because it was deleted."""
    store.set_mark(f"{MISSED}{name}", 0)
