"""The state of a master in memory: its lease, its slaves' states, the quarantine, the consumers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from portable_core.errors import LeaseHeld, LeaseLost, StoreError
from portable_core.ports import (
    ConsumerState,
    Lease,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
    SlaveState,
)

#: Approximate bytes of a record's objects, beside its payload and metadata.
OVERHEAD = 200


class MemoryMasterState:
    """Leases, slaves' states, quarantine and consumers, under the lock of the store."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._opened = False
        self._lease = Lease(0, "", 0)
        self._slaves: dict[str, SlaveState] = {}
        self._quarantine: dict[str, Quarantined] = {}
        self._consumers: dict[str, ConsumerState] = {}

    def _check_open(self) -> None:
        if not self._opened:
            raise StoreError("the store is not open. Open it first.")

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        with self._lock:
            self._check_open()
            if now < self._lease.expires:
                raise LeaseHeld(
                    f"{self._lease.holder} is syncing. Try again when that sync has ended."
                )
            self._lease = Lease(self._lease.token + 1, holder, now + ttl)
            return self._lease

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        with self._lock:
            self._check_lease(lease)
            self._lease = replace(self._lease, expires=now + ttl)
            return self._lease

    def release_lease(self, lease: Lease) -> None:
        with self._lock:
            self._check_open()
            if lease.token == self._lease.token:
                self._lease = Lease(lease.token + 1, "", 0)

    def end_lease(self) -> None:
        """End the lease of a process that has ended; no other process can hold it."""
        with self._lock:
            if self._lease.holder:
                self._lease = Lease(self._lease.token + 1, "", 0)

    def _check_lease(self, lease: Lease) -> None:
        self._check_open()
        if lease.token != self._lease.token:
            raise LeaseLost("this sync lost its lease to a newer one; nothing was written")

    def slave_states(self) -> dict[str, SlaveState]:
        with self._lock:
            self._check_open()
            return dict(self._slaves)

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        with self._lock:
            self._check_lease(lease)
            if state is None:
                self._slaves.pop(name, None)
                return
            report: Mapping[str, object] = dict(state.report)
            self._slaves[name] = replace(state, report=report)

    def consumers(self) -> dict[str, ConsumerState]:
        with self._lock:
            self._check_open()
            return dict(self._consumers)

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        with self._lock:
            self._check_open()
            if state is None:
                self._consumers.pop(name, None)
            else:
                self._consumers[name] = state

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        with self._lock:
            self._check_lease(lease)
            for item in items:
                self._quarantine.setdefault(item.id, item)

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        with self._lock:
            self._check_lease(lease)
            return self._quarantine.pop(id_, None) is not None

    def quarantine(self) -> Iterator[Quarantined]:
        with self._lock:
            self._check_open()
            items = sorted(self._quarantine.values(), key=_get_position)
        yield from items

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        with self._lock:
            self._check_open()
            items = sorted(self._quarantine.values(), key=_get_position, reverse=True)
        found = [
            QuarantineEntry(
                _get_position(item),
                item.id,
                item.slave,
                item.at,
                item.reason,
                item.record.pair,
                item.record.size + OVERHEAD,
            )
            for item in items
            if before is None or _get_position(item) < before
        ]
        return found[:limit]

    def find_quarantined(self, id_: str) -> Quarantined | None:
        with self._lock:
            self._check_open()
            return self._quarantine.get(id_)

    def quarantine_size(self) -> QuarantineSize:
        with self._lock:
            self._check_open()
            items = self._quarantine.values()
            size = sum(item.record.size + OVERHEAD for item in items)
            return QuarantineSize(len(items), size)


def _get_position(item: Quarantined) -> str:
    return f"{max(item.at, 0):014x}{item.id}"
