"""Making a store from a backup.

A restored store begins a new generation and forgets the stints of the original. So every master
compares it from the first record, and shows what the original may have acknowledged since the
backup. Places in the order of arrival continue after those that were reserved at the time of the
backup, so the positions of consumers skip nothing.

The folder has the file :data:`RESTORING_NAME` until the store is complete: no node opens it before.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from portable_core.adapters.sqlite.backup import (
    FORWARD_NAME,
    OTHER_FORWARD_NAME,
    open_copy,
    read_state,
)
from portable_core.adapters.sqlite.file_rows import close_file, encode_file
from portable_core.adapters.sqlite.files import (
    LOCK_NAME,
    PID_NAME,
    RESTORING_NAME,
    STATE_NAME,
    DataFile,
    parse_name,
    read_fingerprint,
    remove_database,
    sync_folder,
    translate_error,
)
from portable_core.adapters.sqlite.lock import FolderLock
from portable_core.adapters.sqlite.manifest import (
    PARTIAL,
    Copy,
    Manifest,
    copy_file,
    digest_file,
    hold_backup,
    read_manifest,
)
from portable_core.adapters.sqlite.private_files import make_file, make_folder
from portable_core.adapters.sqlite.state_file import FILES
from portable_core.errors import SettingsError, StoreDamaged
from portable_core.ingest.stints import STINT_PREFIX

#: What an empty folder may contain: locks, and what a new file system has.
_IGNORED = {LOCK_NAME, PID_NAME, "lost+found"}

_SAVE_SQL = "REPLACE INTO state (key, value) VALUES (?, ?)"


class RestoreReport(NamedTuple):
    """What a restore has done. ``started`` is when the backup was begun, in milliseconds.

    - ``damaged``: the data files that could not be read when the backup was made.
    - ``forward_left``: whether the backup has a state of ``forward`` that was not restored.
    """

    started: int
    files: int
    bytes: int
    damaged: tuple[str, ...]
    forward_left: bool


def check_backup(folder: Path) -> Manifest:
    """Return the manifest after reading every copy. Raise ``StoreDamaged`` for a wrong digest."""
    with hold_backup(folder, exclusive=False):
        manifest = read_manifest(folder)
        for copy in manifest.copies:
            try:
                found = digest_file(folder / copy.file)
            except OSError as error:
                raise StoreDamaged(f"{folder / copy.file}: {error}") from error
            _compare(folder, copy, found)
    return manifest


def _compare(folder: Path, copy: Copy, found: tuple[int, str]) -> None:
    if found != (copy.size, copy.sha256):
        raise StoreDamaged(
            f"{folder / copy.file} is damaged: its digest differs from the one in the manifest. "
            "Use another backup, or make this one again."
        )


class Restore:
    """One restore of a backup into the folder ``target``, which is empty or does not exist."""

    def __init__(
        self,
        backup: Path,
        target: Path,
        *,
        forward_state: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backup = backup
        self._target = target
        self._forward_state = forward_state
        self._clock = clock

    def run(self) -> RestoreReport:
        """Restore the store. Raise ``SettingsError`` for a wrong folder, ``StoreError``.

        An interrupted restore is begun again by the next one.
        """
        with hold_backup(self._backup, exclusive=False):
            manifest = read_manifest(self._backup)
            self._check_target()
            make_folder(self._target)
            lock = FolderLock(self._target)
            lock.acquire(0)
            try:
                self._check_target()  # no node may have begun a store here meanwhile
                self._copy_all(manifest)
            except OSError as error:
                raise translate_error(error, str(self._target)) from error
            finally:
                lock.release()
        names = {copy.name for copy in manifest.copies}
        return RestoreReport(
            manifest.started,
            len(manifest.copies),
            sum(copy.size for copy in manifest.copies),
            manifest.damaged,
            OTHER_FORWARD_NAME in names and self._forward_state is None,
        )

    def _check_target(self) -> None:
        target, marker = self._target, self._target / RESTORING_NAME
        if target.exists() and not target.is_dir():
            raise SettingsError(f"TARGET: {target} is not a folder. Choose another one.")
        if target.is_dir() and not marker.exists() and set(os.listdir(target)) - _IGNORED:
            raise SettingsError(
                f"TARGET: {target} is not empty. Move its content elsewhere, or choose another "
                "folder."
            )
        if self._forward_state is not None and self._forward_state.exists():
            raise SettingsError(
                f"--forward-state: {self._forward_state} exists. Move it, or choose another file."
            )

    def _copy_all(self, manifest: Manifest) -> None:
        marker = self._target / RESTORING_NAME
        make_file(marker)
        sync_folder(self._target)
        self._remove_remains()
        copies = {copy.name: copy for copy in manifest.copies}
        for name, copy in copies.items():
            if parse_name(name) is not None:
                self._copy(copy, self._target / name)
        for name, target in self._list_forward_states():
            if name in copies:
                make_folder(target.parent)
                self._copy(copies[name], target)
        if STATE_NAME not in copies:
            raise StoreDamaged(f"{self._backup} has no state of a store. Use another backup.")
        self._copy(copies[STATE_NAME], self._target / STATE_NAME)
        self._begin_epoch(copies)
        sync_folder(self._target)
        marker.unlink()
        sync_folder(self._target)

    def _list_forward_states(self) -> list[tuple[str, Path]]:
        states = [(FORWARD_NAME, self._target / FORWARD_NAME)]
        if self._forward_state is not None:
            states.append((OTHER_FORWARD_NAME, self._forward_state))
        return states

    def _remove_remains(self) -> None:
        """Remove what an interrupted restore has left."""
        for path in list(self._target.iterdir()):
            if path.name == STATE_NAME or parse_name(path.name) is not None:
                remove_database(path)
            elif path.name.endswith(PARTIAL):
                path.unlink()
        (self._target / FORWARD_NAME).unlink(missing_ok=True)

    def _copy(self, copy: Copy, target: Path) -> None:
        partial = target.with_name(f"{target.name}{PARTIAL}")
        _compare(self._backup, copy, copy_file(self._backup / copy.file, partial))
        partial.replace(target)
        sync_folder(target.parent)

    def _begin_epoch(self, copies: dict[str, Copy]) -> None:
        """Change the state to that of a store whose files are those in this folder now."""
        path = self._target / STATE_NAME
        saved = read_state(path)
        generation = max(saved.generation + 1, int(self._clock() * 1000))
        changes: dict[str, object | None] = {"store:generation": generation}
        for file in saved.files:
            changes[f"{FILES}:{file.name}"] = self._describe(file, copies.get(file.name))
        try:
            with closing(open_copy(path)) as reading:
                marks = f"mark:{STINT_PREFIX}"
                query = "SELECT key FROM state WHERE substr(key, 1, ?) = ?"
                stints = reading.execute(query, (len(marks), marks)).fetchall()
            changes.update((key, None) for (key,) in stints)
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                for key, value in changes.items():
                    if value is None:
                        connection.execute("DELETE FROM state WHERE key = ?", (key,))
                    else:
                        connection.execute(_SAVE_SQL, (key, msgspec.json.encode(value)))
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate_error(error, STATE_NAME) from error

    def _describe(self, file: DataFile, copy: Copy | None) -> object | None:
        """Return the saved form of a file here; None for one that the store has to read anew."""
        if file.in_transition or (file.damage and copy is not None):
            return None
        path = self._target / file.name
        fingerprint = read_fingerprint(path)
        if copy is None:  # damaged, or missing; the store reports it
            return encode_file(replace(file, log=()), durable=True)
        moved = replace(file, inode=os.stat(path).st_ino, fingerprint=(), log=())
        # Only the copy of a file that was at rest has the extent that the state has saved.
        same = file.closed and file.fingerprint == copy.source[:3]
        return encode_file(close_file(moved, fingerprint) if same else moved, durable=True)
