"""The methods of a store for the state of a master, without those that write payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portable_core.adapters.sqlite.files import HOUR_MS, DataFile, FileDamaged
from portable_core.adapters.sqlite.retention import find_first_hour, find_size_cut
from portable_core.adapters.sqlite.scanner import make_erased_row
from portable_core.adapters.sqlite.search_methods import SqliteSearchMethods
from portable_core.errors import StoreError
from portable_core.ports import (
    ConsumerState,
    Lease,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
    SlaveState,
    Tombstone,
)
from portable_core.records import Pair, Record


class SqliteMasterMethods(SqliteSearchMethods):
    """Leases, slaves' states, consumers, removal, the quarantine. Safe to use from any thread."""

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

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
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

    def import_records(self, lease: Lease, records: Sequence[Record]) -> None:
        until = self._until()
        with self._appending(until):
            self._master.check_lease(lease)
            self._places.note_older(until)
            try:
                self._appender.append_older(records, until)
            except FileDamaged as error:
                self._registry.note_damage(error, until)
                raise StoreError(f"{error}. Try again.") from error

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        self._check_open()
        return find_size_cut(self._folder, self._state.files, limit, before)

    def erase(self, tombstones: Sequence[Tombstone]) -> int:
        until = self._until()
        with self._appending(until):
            self._tombstones.save(tombstones, until)
            found: dict[str, list[tuple[str, bytes]]] = {}
            erased: set[Pair] = set()
            for tombstone in tombstones:
                pair = tombstone.pair
                for file in self._find_holders(pair):
                    row = make_erased_row(pair, tombstone.at)
                    found.setdefault(file.name, []).append(row)
                    erased.add(pair)
            for name, rows in found.items():
                self._erase_in_file(name, rows)
            return len(erased)

    def _find_holders(self, pair: Pair) -> list[DataFile]:
        """Return the files with a record of this pair that is not erased."""
        hour = pair.timestamp // HOUR_MS * HOUR_MS
        files = self._state.files.list_readable(hour, hour + HOUR_MS)
        return [file for file in files if self._scanner.holds(file, pair)]

    def _erase_in_file(self, name: str, rows: Sequence[tuple[str, bytes]]) -> None:
        until = self._until()
        try:
            self._appender.erase(name, rows, until)
        except FileDamaged as error:
            self._registry.note_damage(error, until)
            raise StoreError(f"{name}: is damaged, so nothing was erased in it.") from error

    def tombstones(self, after: int = 0) -> Iterator[tuple[int, Tombstone]]:
        self._check_open()
        return self._tombstones.iterate(after)

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
