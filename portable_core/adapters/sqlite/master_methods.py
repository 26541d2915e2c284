"""The methods of a store for the state of a master, without those that write payloads."""

from __future__ import annotations

from collections.abc import Iterator

from portable_core.adapters.sqlite.retention import find_first_hour, find_size_cut
from portable_core.adapters.sqlite.search_methods import SqliteSearchMethods
from portable_core.ports import (
    ConsumerState,
    Lease,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
    SlaveState,
)


class SqliteMasterMethods(SqliteSearchMethods):
    """Leases, slaves' states, consumers, retention, the quarantine. Safe to use from any thread."""

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        until = self._until()
        # Holding the write lock excludes a save under the old lease, running or still pending.
        with self._appending(until):
            return self._master.acquire_lease(holder, now, ttl, until)

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
        self._check_open()
        return self._master.renew_lease(lease, now, ttl, self._until())

    def release_lease(self, lease: Lease) -> None:
        self._check_open()
        self._master.release_lease(lease, self._until())

    def slave_states(self) -> dict[str, SlaveState]:
        with self._refreshed():
            return self._master.slave_states()

    def save_slave(self, lease: Lease, name: str, state: SlaveState) -> None:
        self._check_open()
        self._master.save_slave(lease, name, state, self._until())

    def consumers(self) -> dict[str, ConsumerState]:
        with self._refreshed():
            return self._master.consumers()

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        self._check_open()
        self._master.save_consumer(name, state, self._until())

    def find_first_after(self, position: str) -> Milliseconds | None:
        self._check_open()
        start = self._places.parse(position)
        return find_first_hour(self._state.files.list_after(start.place), start.pair)

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        self._check_open()
        return find_size_cut(self._folder, self._state.files, limit, before)

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        self._check_open()
        return self._quarantine.delete(lease, id_, self._until())

    def quarantine(self) -> Iterator[Quarantined]:
        self._check_open()
        yield from self._quarantine.iterate()

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        self._check_open()
        return self._quarantine.list_page(before, limit)

    def find_quarantined(self, id_: str) -> Quarantined | None:
        self._check_open()
        return self._quarantine.find(id_)

    def quarantine_size(self) -> QuarantineSize:
        with self._refreshed():
            return self._quarantine.measure()
