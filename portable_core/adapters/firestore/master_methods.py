"""The methods of a store for the state of a master: leases, slaves, the quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portable_core.adapters.firestore import leases, quarantine, slaves
from portable_core.adapters.firestore.arrival_methods import FirestoreArrivals
from portable_core.ports import (
    Lease,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
    SlaveState,
)


class FirestoreMasterMethods(FirestoreArrivals):
    """Leases, slaves' states, the quarantine. Safe to use from any thread."""

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        return leases.acquire_lease(self._database, holder, now, ttl)

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        return leases.renew_lease(self._database, lease, now, ttl)

    def release_lease(self, lease: Lease) -> None:
        leases.release_lease(self._database, lease)

    def slave_states(self) -> dict[str, SlaveState]:
        return slaves.read_slaves(self._database)

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        slaves.save_slave(self._database, lease, name, state)

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        quarantine.save_quarantine(self._database, lease, items)

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        return quarantine.delete_quarantined(self._database, lease, id_)

    def quarantine(self) -> Iterator[Quarantined]:
        return quarantine.read_quarantine(self._database)

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        return quarantine.list_quarantine(self._database, before, limit)

    def find_quarantined(self, id_: str) -> Quarantined | None:
        return quarantine.find_quarantined(self._database, id_)

    def quarantine_size(self) -> QuarantineSize:
        return quarantine.measure_quarantine(self._database)
