"""The data files of a store: their names, their extents, and their damage.

Readers see new extents of several files at once (:meth:`Registry.publish`), so that a scan of many
files begins at one point in time. The state file holds everything that must survive a restart.
"""

from __future__ import annotations

import logging
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from portable_core.adapters.sqlite.files import (
    HOUR_MS,
    DataFile,
    Extent,
    FileDamaged,
    decode_file,
    encode_file,
    list_files,
    parse_name,
    read_fingerprint,
)
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.errors import StoreError
from portable_core.ports import Damage, Milliseconds

logger = logging.getLogger(__name__)

_LAST_HOUR = 10**10


def make_version(algorithm: str) -> int:
    """Return the ``PRAGMA user_version`` of the store's data files, which is never 0.

    It distinguishes them from the files of another hash algorithm or of another program.
    """
    return zlib.crc32(algorithm.encode()) & 0x7FFFFFFF | 1


class Registry:
    """The known data files. Safe to use from any thread.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(self, folder: Path, state: State, reader: Reader) -> None:
        self._folder = folder
        self._state = state
        self._reader = reader
        self._mutex = threading.Lock()
        self._files: dict[str, DataFile] = {}
        #: Hour, number and name of every file, in order.
        self._order: list[tuple[int, int, str]] = []
        #: The highest number of a file in each hour, also of removed files. Numbers are not reused:
        #: a scan that began with the removed file would read the new file's rows as that file's.
        self._numbers: dict[int, int] = {}
        self._version = 0
        self._set_aside: tuple[str, ...] = ()
        #: Damaged files that are not saved in the state yet.
        self._unsaved: dict[str, DataFile] = {}
        self._refresh_lock = threading.Lock()
        #: The last reason that was logged for each file.
        self._logged: dict[str, str] = {}

    # -- the known files ---------------------------------------------------------------------------

    def get(self, name: str) -> DataFile | None:
        return self._files.get(name)

    def list_all(self, first_hour: int = 0, last_hour: int = _LAST_HOUR) -> list[DataFile]:
        """Return the files of these hours, by hour and number."""
        with self._mutex:
            low = bisect_left(self._order, (first_hour, 0, ""))
            high = bisect_left(self._order, (last_hour + 1, 0, ""))
            return [self._files[name] for _, _, name in self._order[low:high]]

    def list_readable(self, start: Milliseconds, end: Milliseconds) -> list[DataFile]:
        """Return the files that may hold records with ``start <= timestamp < end``, as a snapshot.

        While another process writes, no exact snapshot exists. A refresh then inspects the newest
        file first, so that for each record in it, all records written before are seen too.
        """
        return [
            file
            for file in self.list_all(max(start, 0) // HOUR_MS, (end - 1) // HOUR_MS)
            if file.readable and file.extent.rows
        ]

    def list_hour(self, hour: int) -> list[DataFile]:
        return self.list_all(hour, hour)

    def next_number(self, hour: int) -> int:
        """Return the number for a new file of this hour."""
        return self._numbers.get(hour, -1) + 1

    def describe_damage(self) -> tuple[Damage, ...]:
        aside = (Damage(name, "set aside: the state could not be read") for name in self._set_aside)
        files = (
            Damage(file.name, file.damage or file.loss, file.start, file.end)
            for file in self.list_all()
            if file.damage or file.loss
        )
        return (*aside, *files)

    # -- changes by the writer ---------------------------------------------------------------------

    def put(self, *files: DataFile) -> None:
        """Add or replace these files, in one step."""
        with self._mutex:
            self._replace({**self._files, **{file.name: file for file in files}})

    def drop(self, names: Iterable[str]) -> None:
        with self._mutex:
            gone = set(names)
            self._replace({name: f for name, f in self._files.items() if name not in gone})

    def _replace(self, files: dict[str, DataFile]) -> None:
        self._files = files
        self._order = sorted((file.hour, file.number, file.name) for file in files.values())
        for hour, number, _ in self._order:
            self._numbers[hour] = max(self._numbers.get(hour, 0), number)

    def publish(self, extents: Mapping[str, Extent]) -> None:
        """Make these extents visible to readers, all at once."""
        with self._mutex:
            for name, extent in extents.items():
                file = self._files.get(name)
                if file is not None:
                    self._files[name] = replace(file, extent=extent)

    # -- damage ------------------------------------------------------------------------------------

    def note_damage(self, error: FileDamaged, until: float) -> None:
        """Skip the file from now on; save its damage and set the cursors back."""
        with self._mutex:
            file = self._files.get(error.name)
            if file is None or not file.readable:
                return  # removed meanwhile, or known as damaged
            fingerprint = read_fingerprint(self._folder / file.name)
            file = replace(file, damage=error.reason, fingerprint=fingerprint, extent=Extent())
            self._files[file.name] = file
            self._unsaved[file.name] = file
        self._log_damage(file)
        self._reader.forget(file.name)
        try:
            self.save_damage(until)
        except StoreError as failed:
            logger.error("%s: the damage is not saved yet: %s", self._folder, failed)

    def _log_damage(self, file: DataFile) -> None:
        problem = "is damaged and skipped" if file.damage else "has lost records"
        reason = file.damage or file.loss
        if self._logged.get(file.name) != reason:
            self._logged[file.name] = reason
            logger.error("%s: %s %s: %s", self._folder, file.name, problem, reason)

    def save_damage(self, until: float) -> None:
        """Save the damage that could not be saved when it was noticed."""
        files = list(self._unsaved.values())
        if files and not self._state.read_only:
            self._state.save_files(
                {file.name: encode_file(file) for file in files},
                until,
                lost_from=min(file.start for file in files),
            )
            for file in files:
                self._unsaved.pop(file.name, None)

    # -- refreshing from the folder ----------------------------------------------------------------

    def open(self, until: Callable[[], float], *, new_generation: bool = False) -> None:
        """Compare the folder with the state, reading every file.

        Until then the extent of each file is the one saved in the state.
        """
        self._version = make_version(self._state.algorithm)
        files = [
            decode_file(*place, value)
            for name, value in self._state.files().items()
            if (place := parse_name(name)) is not None
        ]
        with self._mutex:
            self._replace({file.name: file for file in files})
        self._refresh(until, opening=True, new_generation=new_generation)

    def refresh(self, until: Callable[[], float]) -> None:
        """Notice changes of the folder by other programs: files that came back or disappeared."""
        if self._refresh_lock.acquire(blocking=False):
            try:
                self.save_damage(until())
                self._refresh(until, opening=False, new_generation=False)
            finally:
                self._refresh_lock.release()

    def _refresh(self, until: Callable[[], float], *, opening: bool, new_generation: bool) -> None:
        # The folder is listed before the known files: this store registers a file before it creates
        # that file, and forgets a file only after it removed that file.
        found = list_files(self._folder)
        self._set_aside = tuple(
            name for name in found if ".damaged-" in name and not name.endswith(("-wal", "-shm"))
        )
        known = {file.name: file for file in self.list_all()}
        changed: dict[str, DataFile] = {}
        lost_from: Milliseconds | None = None
        places = {place: name for name in {*known, *found} if (place := parse_name(name))}
        for _, name in sorted(places.items(), reverse=True):  # see list_readable
            before = known.get(name)
            if before is not None and before.in_transition:
                continue
            after = self._inspect(name, before, opening=opening)
            if after is None:
                continue
            changed[name] = after
            replaced = before is not None and not before.damage and before.inode != after.inode
            restored = before is not None and before.loss and not after.loss
            lost = after.damage or (after.loss and (before is None or after.loss != before.loss))
            if not after.damage and (before is None or before.damage or replaced or restored):
                if after.extent.rows:
                    logger.warning("%s: %s was restored, or added from outside", self._folder, name)
                    new_generation = True
            elif lost and (before is None or not before.damage):
                self._log_damage(after)
            if (replaced or lost) and (before is None or not before.damage):
                lost_from = after.start if lost_from is None else min(lost_from, after.start)
        self._apply_changes(
            known, changed, until, new_generation=new_generation, lost_from=lost_from
        )

    def _apply_changes(
        self,
        known: Mapping[str, DataFile],
        changed: Mapping[str, DataFile],
        until: Callable[[], float],
        *,
        new_generation: bool,
        lost_from: Milliseconds | None,
    ) -> None:
        """Save the changes that :meth:`_refresh` found, then apply them."""
        values: dict[str, object] = {}
        removed = [
            name
            for name, file in changed.items()
            if file.damage and not file.fingerprint and name in known and known[name].fingerprint
        ]  # the operator removed a damaged file, which ends the damage
        for name, file in changed.items():
            if name in removed:
                values[name] = None
            elif name not in known or encode_file(known[name]) != encode_file(file):
                values[name] = encode_file(file)
        if values or new_generation:
            self._state.save_files(
                values, until(), new_generation=new_generation, lost_from=lost_from
            )
        for name in values:
            self._reader.forget(name)
        self.put(*changed.values())
        self.drop(removed)

    def _inspect(self, name: str, before: DataFile | None, *, opening: bool) -> DataFile | None:
        """Return the new attributes of one file; None if nothing changed."""
        fingerprint = read_fingerprint(self._folder / name)
        inode = fingerprint[0] if fingerprint else 0
        now = self._files.get(name)
        if before is not None and (now is None or now.in_transition):
            return None  # removed by this store since it was listed
        noted = self._unsaved.get(name)
        if noted is not None and noted.fingerprint == fingerprint:
            return noted
        if before is not None:
            if self._state.read_only and before.damage:
                return None  # only the writer decides whether a damaged file came back
            if not opening and before.damage and fingerprint == before.fingerprint:
                return None
            if not opening and not before.damage and inode == before.inode:
                return None
        place = parse_name(name)
        assert place is not None  # noqa: S101 -- only data files come here
        file = DataFile(*place, inode=inode)
        if before is None and not fingerprint:
            return None  # removed since the folder was listed
        try:
            origin = self._reader.read_format(name)
            if origin == (0, 0) and before is None:
                return None  # a process ended while it created this file; the file has no records
            if origin[0] == 0:
                raise FileDamaged(name, "the file is empty")
            if origin[1] != self._version:
                raise FileDamaged(name, "the file belongs to another hash algorithm or program")
            if before is not None and before.damage:
                self._reader.check_integrity(name)
            file = replace(file, extent=self._reader.read_extent(name))
            if before is None or before.damage or before.inode != inode:
                return file
            return replace(file, loss=self._find_loss(before, file.extent))
        except FileDamaged as error:
            return replace(file, damage=error.reason, fingerprint=fingerprint, extent=Extent())

    def _find_loss(self, before: DataFile, extent: Extent) -> str:
        """Return which records a file has lost since its extent was saved; empty if none."""
        saved = before.extent
        if extent.rows >= saved.rows and extent.last >= saved.last:
            # Nothing is added to a file with a loss, so if the file has grown, it was restored.
            return before.loss if extent == replace(saved, first=extent.first) else ""
        if not self._state.read_only:
            self._reader.check_integrity(before.name)  # it may contain half of a checkpoint
        return f"it held {saved.rows} records and holds {extent.rows} now"

    @property
    def version(self) -> int:
        return self._version
