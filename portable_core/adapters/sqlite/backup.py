"""A consistent copy of a store, beside the process that writes it.

The order makes a backup consistent:

1. The state of ``forward``: its position is never later than the records.
2. Files at rest, which is most of the work. An earlier backup in the folder spares the copies of
   files that have not changed.
3. The state. Everything that it claims (cursors, horizons, positions) was durable before in files.
4. Every file that the state lists, unless it is still at rest and as it was copied.

So each file is copied as it was when the state was copied, or later. If a file disappears meanwhile
(retention), the steps begin again at 3.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from portable_core.adapters.sqlite.file_rows import decode_file
from portable_core.adapters.sqlite.files import (
    STATE_NAME,
    DataFile,
    explain_damage,
    is_recent,
    parse_name,
    read_closed_fingerprint,
    sync_folder,
    translate_error,
)
from portable_core.adapters.sqlite.manifest import (
    PARTIAL,
    Copy,
    Manifest,
    copy_database,
    copy_file,
    digest_file,
    hold_backup,
    make_copy_name,
    make_manifest,
    read_manifest,
    remove_others,
    write_manifest,
)
from portable_core.adapters.sqlite.private_files import make_folder
from portable_core.adapters.sqlite.state_file import FILES
from portable_core.errors import SettingsError, StoreDamaged, StoreError

logger = logging.getLogger(__name__)

#: The state of ``forward`` beside a master, and the name of one elsewhere.
FORWARD_NAME = "forward/state.sqlite3"
OTHER_FORWARD_NAME = "forward.sqlite3"

#: How often the state is copied until no file disappears meanwhile.
_MOST_PASSES = 5


class BackupReport(NamedTuple):
    """What a backup has done.

    - ``files`` and ``bytes``: of the whole backup; ``copied`` and ``copied_bytes``: those that were
      copied this time, for which an earlier copy could not be kept.
    - ``damaged``: data files that cannot be read. An earlier copy of them is kept, if there is one.
    """

    started: int
    files: int
    bytes: int
    copied: int
    copied_bytes: int
    damaged: tuple[str, ...]


class SavedState(NamedTuple):
    """The values of a copied state."""

    uuid: str
    generation: int
    files: tuple[DataFile, ...]


class Backup:
    """One backup of the store in ``source`` into the folder ``target``."""

    def __init__(
        self,
        source: Path,
        target: Path,
        *,
        forward_state: Path | None = None,
        on_step: Callable[[str], object] = lambda name: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``on_step`` is called before each database is copied, with its name."""
        self._source = source
        self._target = target
        self._forward_state = forward_state
        self._on_step = on_step
        self._clock = clock
        #: The copies that can be kept, by the name of their database.
        self._kept: dict[str, Copy] = {}
        self._copied: dict[str, int] = {}
        self._damaged: dict[str, str] = {}

    def run(self) -> BackupReport:
        """Make the backup. Raise ``StoreError``, ``SettingsError`` for a wrong folder."""
        self._check_folders()
        make_folder(self._target)
        with hold_backup(self._target, exclusive=True):
            try:
                manifest = self._run()
                write_manifest(self._target, manifest)
                remove_others(self._target, manifest)
            except OSError as error:
                raise translate_error(error, str(self._target)) from error
        sizes = [copy.size for copy in manifest.copies]
        copied = [size for name, size in self._copied.items() if name in self._kept]
        return BackupReport(
            manifest.started, len(sizes), sum(sizes), len(copied), sum(copied), manifest.damaged
        )

    def _check_folders(self) -> None:
        if not (self._source / STATE_NAME).exists():
            raise SettingsError(f"STORE: there is no store in {self._source}. Name its folder.")
        source, target = self._source.resolve(), self._target.resolve()
        if target == source or source in target.parents or target in source.parents:
            raise SettingsError(
                f"DIR: {self._target} and the store share a folder. Choose one outside of it, on "
                "another disk."
            )
        if self._forward_state is not None and not self._forward_state.exists():
            raise SettingsError(f"--forward-state: there is no file {self._forward_state}.")

    def _run(self) -> Manifest:
        started = int(self._clock() * 1000)
        self._read_previous()
        forward = list(self._copy_forward())
        before = self._copy_state()[1]
        for file in before.files:
            if not file.damage and not file.in_transition and self._fingerprint(file.name):
                self._copy_data_file(file)
        for _ in range(_MOST_PASSES):
            state, saved = self._copy_state()
            data = self._copy_listed(saved)
            if data is not None:
                break
        else:
            raise StoreError(f"{self._source}: files disappear while they are copied. Try again.")
        sync_folder(self._target)
        finished = int(self._clock() * 1000)
        return make_manifest(
            saved.uuid,
            saved.generation,
            (started, finished),
            (*forward, state, *data),
            tuple(f"{name}: {reason}" for name, reason in self._damaged.items()),
        )

    def _read_previous(self) -> None:
        """Find the copies of an earlier backup that can be kept."""
        try:
            manifest = read_manifest(self._target)
        except StoreDamaged as error:
            logger.warning("%s Everything is copied again.", error)
        except StoreError:
            return
        else:
            self._kept = {copy.name: copy for copy in manifest.copies if self._has(copy)}

    def _has(self, copy: Copy) -> bool:
        path = self._target / copy.file
        return path.is_file() and path.stat().st_size == copy.size

    # -- copying -----------------------------------------------------------------------------------

    def _copy_forward(self) -> Iterator[Copy]:
        if (self._source / FORWARD_NAME).exists():
            yield self._copy(FORWARD_NAME, self._source / FORWARD_NAME)
        if self._forward_state is not None:
            yield self._copy(OTHER_FORWARD_NAME, self._forward_state)

    def _copy_state(self) -> tuple[Copy, SavedState]:
        copy = self._copy(STATE_NAME, self._source / STATE_NAME)
        return copy, read_state(self._target / copy.file)

    def _copy_listed(self, state: SavedState) -> list[Copy] | None:
        """Copy the files that the state lists; None if one of them has disappeared."""
        copies = []
        self._damaged = {}
        for file in state.files:
            if file.in_transition:  # it is being removed
                continue
            copy = None
            if not file.damage:
                copy = self._copy_data_file(file)
                if copy is None and file.name not in self._damaged:
                    return None
            else:
                self._damaged[file.name] = file.damage
            copy = copy or self._kept.get(file.name)  # from before the damage
            if copy is not None:
                copies.append(copy)
        return copies

    def _fingerprint(self, name: str) -> tuple[int, ...]:
        """Return the fingerprint of a file at rest; empty if its fingerprint may not show changes.

        A file without records in its write-ahead log is complete, and writing begins with the log.
        """
        fingerprint = read_closed_fingerprint(self._source / name)
        return () if not fingerprint or is_recent(fingerprint[2]) else fingerprint

    def _copy_data_file(self, file: DataFile) -> Copy | None:
        """Return a copy of the file as it is now or later; None if it is missing or damaged."""
        name = file.name
        fingerprint = self._fingerprint(name)
        kept = self._kept.get(name)
        if fingerprint and kept is not None and kept.source == fingerprint:
            return kept
        self._on_step(name)
        path = self._source / name
        try:
            if fingerprint:
                size, sha256 = copy_file(path, self._partial(name))
                if self._fingerprint(name) == fingerprint:
                    return self._keep(name, size, sha256, fingerprint)
            return self._copy(name, path)
        except StoreError:
            if path.exists():
                raise
            return None
        except FileNotFoundError:
            return None
        except _Damaged as error:
            self._damaged[name] = str(error)
            return None

    def _copy(self, name: str, path: Path) -> Copy:
        """Return a copy of a database that may be written meanwhile."""
        self._on_step(name)
        partial = self._partial(name)
        try:
            copy_database(path, partial)
        except sqlite3.Error as error:
            reason = explain_damage(error, path)
            if reason is not None and path.exists() and parse_name(name) is not None:
                raise _Damaged(reason) from error
            raise translate_error(error, name) from error
        return self._keep(name, *digest_file(partial), ())

    def _partial(self, name: str) -> Path:
        return self._target / f"{name.replace('/', '.')}{PARTIAL}"

    def _keep(self, name: str, size: int, sha256: str, source: tuple[int, ...]) -> Copy:
        copy = Copy(name, make_copy_name(name, sha256), size, sha256, source)
        self._partial(name).replace(self._target / copy.file)
        self._kept[name] = copy
        self._copied[name] = size
        return copy


class _Damaged(Exception):
    """A data file cannot be read."""


def read_state(path: Path) -> SavedState:
    """Return the values of a copied state. Raise ``StoreDamaged``."""
    values: dict[str, object] = {}
    files: list[DataFile] = []
    try:
        with closing(open_copy(path)) as connection:
            for key, value in connection.execute("SELECT key, value FROM state ORDER BY key"):
                section, _, name = key.partition(":")
                if section == FILES:
                    files.append(decode_file(name, value))
                elif section == "store":
                    values[name] = json.loads(value)
        uuid, generation = str(values["uuid"]), int(str(values["generation"]))
    except (sqlite3.Error, KeyError, ValueError) as error:
        raise StoreDamaged(f"{path.name}: the state of the store is damaged: {error}") from error
    return SavedState(uuid, generation, tuple(files))


def open_copy(path: Path) -> sqlite3.Connection:
    """Return a connection that reads a complete copy, and creates no file beside it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
