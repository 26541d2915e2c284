"""Comparing the data files of a store with what is known about them, and their damage.

Their content decides: a file has grown from what is known if the row that was the last one is still
at its place. Inode, size and mtime only spare reading it.

A file is closed when no write-ahead log belongs to it any more. Its inode, size and mtime are saved
then, with its extent. So opening a store of many files reads those alone that have changed since;
the others are read in the background (:meth:`Registry.check_next`).

While the store is open, its folder is listed when the folder's mtime has changed.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from portable_core.adapters.sqlite.changes import Changes
from portable_core.adapters.sqlite.file_rows import close_file, encode_file
from portable_core.adapters.sqlite.files import (
    OTHER_FILE,
    DataFile,
    Extent,
    FileDamaged,
    Listing,
    format_name,
    list_files,
    parse_name,
    read_closed_fingerprint,
    read_fingerprint,
)
from portable_core.adapters.sqlite.folder_watch import FolderWatch
from portable_core.adapters.sqlite.logs import is_same_log, read_salts
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.errors import StoreError
from portable_core.ports import Damage

logger = logging.getLogger(__name__)

#: The most files of which one commit saves changes.
_FILES_PER_COMMIT = 1000


def make_version(algorithm: str) -> int:
    """Return the ``PRAGMA user_version`` of the store's data files, which is never 0.

    It distinguishes them from the files of another hash algorithm or of another program.
    """
    return zlib.crc32(algorithm.encode()) & 0x7FFFFFFF | 1


def describe_file(file: DataFile) -> Damage:
    """Return the damage, or the loss, of a file."""
    return Damage(file.name, file.damage or file.loss, file.start, file.end)


class Registry:
    """Keeps the known files as the folder has them. Safe to use from any thread.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(self, folder: Path, state: State, reader: Reader) -> None:
        self._folder = folder
        self._state = state
        self._files = state.files
        self._reader = reader
        self._version = 0
        self._set_aside: tuple[str, ...] = ()
        #: Damaged files that are not saved in the state yet.
        self._unsaved: dict[str, DataFile] = {}
        self._refresh_lock = threading.Lock()
        #: The last reason that was logged for each file.
        self._logged: dict[str, str] = {}
        self._watch = FolderWatch(folder)

    @property
    def version(self) -> int:
        return self._version

    # -- damage ------------------------------------------------------------------------------------

    def describe_damage(self) -> tuple[Damage, ...]:
        aside = (Damage(name, "set aside: the state could not be read") for name in self._set_aside)
        files = (file for file in self._files.list_others() if file.damage or file.loss)
        return (*aside, *map(describe_file, files))

    def note_damage(self, error: FileDamaged, until: float) -> None:
        """Skip the file from now on; save its damage and set the cursors back."""
        fingerprint = read_fingerprint(self._folder / error.name)
        file = self._files.mark_damaged(error.name, error.reason, fingerprint)
        if file is None:
            return  # removed meanwhile, or known as damaged
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

    def open(self, until: Callable[[], float]) -> None:
        """Compare the folder with the state.

        Only closed files that are as they were closed are not read; see :meth:`check_next`.
        """
        self._version = make_version(self._state.algorithm)
        self._list(until, opening=True)

    def refresh(self, until: Callable[[], float], *, list_folder: bool = True) -> None:
        """Notice changes by other programs: files that came back, disappeared or were replaced.

        Without ``list_folder``, only files that are not closed are looked at.
        """
        if self._refresh_lock.acquire(blocking=False):
            try:
                self.save_damage(until())
                if list_folder and self._watch.may_have_changed():
                    self._list(until, opening=False)
                else:
                    names = [file.name for file in self._files.list_others()]
                    self._inspect_all(names, until, opening=False)
            finally:
                self._refresh_lock.release()

    def _list(self, until: Callable[[], float], *, opening: bool) -> None:
        with self._watch.listing():
            # The folder is listed before the known files: this store registers a file before it
            # creates that file, and forgets a file only after it removed that file.
            listing = list_files(self._folder)
            self._set_aside = listing.set_aside
            names = self._find_suspects(listing, opening=opening)
            self._inspect_all(names, until, opening=opening)

    def _find_suspects(self, listing: Listing, *, opening: bool) -> list[str]:
        """Return the files that may not be as they are known."""
        found = dict(listing.inodes)
        names: list[str] = []
        for hour, number, inode, size, mtime in self._files.list_identities():
            name = format_name(hour, number)
            listed = found.pop(name, 0)
            if opening:
                read = read_closed_fingerprint if name in listing.logs else read_fingerprint
                if read(f"{self._folder}/{name}")[:3] != (inode, size, mtime):
                    names.append(name)
            elif listed != inode:
                names.append(name)
        others = [file.name for file in self._files.list_others()]
        unknown = found.keys() - set(others)
        return [*names, *others, *(name for name in unknown if parse_name(name))]

    def _inspect_all(
        self,
        names: Collection[str],
        until: Callable[[], float],
        *,
        opening: bool,
        late: bool = False,
    ) -> None:
        ordered = sorted(names, key=_parse_place, reverse=True)  # see KnownFiles.list_readable
        begun = False
        for at in range(0, max(len(ordered), 1), _FILES_PER_COMMIT):
            changes = Changes()
            for name in ordered[at : at + _FILES_PER_COMMIT]:
                before = self._files.get(name)
                if before is None or not before.in_transition:
                    after = self._inspect(name, before, opening=opening)
                    if after is not None:
                        changes.note(before, after, late=late)
            if opening and begun:
                changes.new_generation = False  # one is enough for what no request has seen yet
            self._apply(changes, until)
            begun |= changes.new_generation

    def _apply(self, changes: Changes, until: Callable[[], float]) -> None:
        """Save the changes, then make them visible."""
        for file in changes.lost:
            self._log_damage(file)
        if changes.restored:
            names = ", ".join(changes.restored[:10])
            more = f" and {len(changes.restored) - 10} more" if len(changes.restored) > 10 else ""
            logger.warning("%s: restored, or added from outside: %s%s", self._folder, names, more)
        removed = [file.name for file in changes.removed]
        values: dict[str, object] = dict.fromkeys(removed)
        values.update({file.name: encode_file(file) for file in changes.unsaved})
        if values or changes.new_generation:
            self._state.save_files(
                values,
                until(),
                new_generation=changes.new_generation,
                lost_from=changes.lost_from,
                removed=[describe_file(file) for file in changes.removed],
                came_back=self._find_first_row(changes),
            )
        for name in values:
            self._reader.forget(name)
        self._files.put(*changes.files)
        self._files.drop(removed)

    def _find_first_row(self, changes: Changes) -> int | None:
        """Return the first rowid of records that came back; None without one."""
        rows: list[int] = []
        for file in changes.files:
            if file.name in changes.restored:
                before = self._files.get(file.name)
                all_new = before is None or before.damage or file.is_other
                known = 0 if before is None or all_new else before.extent.rows
                row = self._reader.find_place(file, known)
                if row is not None:
                    rows.append(row)
        return min(rows, default=None)

    def _inspect(self, name: str, before: DataFile | None, *, opening: bool) -> DataFile | None:
        """Return the new attributes of one file; None if nothing changed."""
        path = self._folder / name
        closed_as = read_closed_fingerprint(path)
        fingerprint = read_fingerprint(path)
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
        file = DataFile(*place, inode=inode, log=() if before is None else before.log)
        if before is None and not fingerprint:
            return None  # removed since the folder was listed
        log = file.log and opening and not self._state.read_only
        salts = read_salts(path) if log else ()
        try:
            if salts and not is_same_log(file.log, salts):
                raise FileDamaged(name, "its write-ahead log is that of another file")
            known = Extent() if before is None else before.extent
            extent = self._reader.read_summary(name, self._version, known, alone=bool(closed_as))
            if extent is None and before is None:
                return None  # a process ended while it created this file; the file has no records
            if extent is None:
                raise FileDamaged(name, "the file is empty")
            replaced = before is not None and before.inode != inode and not opening
            if before is not None and (before.damage or replaced):
                self._reader.check_integrity(name)  # the log may be that of the file before
            file = replace(file, extent=extent)
            if before is not None and not before.damage:
                file = replace(file, loss=self._find_loss(before, extent), sealed=before.sealed)
                if log and not salts and not file.loss:
                    file = replace(file, loss="its write-ahead log is missing", log=())
                if file.sealed and not file.loss:
                    return replace(file, extent=replace(before.extent, first=extent.first))
            return close_file(file, closed_as)
        except FileDamaged as error:
            return replace(file, damage=error.reason, fingerprint=fingerprint, extent=Extent())

    def _find_loss(self, before: DataFile, extent: Extent) -> str:
        """Return which records a file has lost since its extent was saved; empty if none."""
        saved = before.extent
        if self._reader.has_grown_from(before.name, saved, extent):
            # Nothing is added to a file with a loss, so if the file has grown, it was restored.
            return before.loss if extent == replace(saved, first=extent.first) else ""
        if not self._state.read_only:
            self._reader.check_integrity(before.name)  # it may contain half of a checkpoint
        counts = f"it held {saved.count} records and holds {extent.count} now"
        is_part = extent.rows < saved.rows and extent.first == saved.first
        return counts if is_part else f"{OTHER_FILE}; {counts}"

    # -- closed files, after opening ---------------------------------------------------------------

    def check_next(self) -> DataFile | None:
        """Read the next closed file that was not read yet; return it if it is not as it is known.

        Return None if it is, and if there is none left.
        """
        file = self._files.next_unchecked()
        if file is None:
            return None
        try:
            found = read_closed_fingerprint(self._folder / file.name)[:3]
            extent = self._reader.read_summary(file.name, self._version, file.extent, alone=True)
        except FileDamaged:
            return file
        if (found, extent) != (file.fingerprint, file.extent) or extent is None:
            return file
        if not self._reader.has_grown_from(file.name, file.extent, extent):
            return file
        self._reader.remove_companions(file.name)
        self._files.note_checked(file)
        return None

    def recheck(self, file: DataFile, until: Callable[[], float]) -> None:
        """Read a closed file again and note its changes. Nothing is being appended meanwhile."""
        with self._refresh_lock:
            if self._files.get(file.name) == file:
                self._inspect_all([file.name], until, opening=True, late=True)


def _parse_place(name: str) -> tuple[int, int]:
    return parse_name(name) or (-1, -1)
