"""Saving in the state which write-ahead log the file that is being written has."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from portable_core.adapters.sqlite.file_rows import encode_file
from portable_core.adapters.sqlite.files import DataFile, FileDamaged
from portable_core.adapters.sqlite.logs import read_salts
from portable_core.adapters.sqlite.registry import Registry
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import Writer
from portable_core.errors import StoreError

logger = logging.getLogger(__name__)


def touch(writer: Writer, version: int, until: float) -> None:
    """Write one page of a file with this ``user_version``, without a change."""
    writer.commit([("BEGIN IMMEDIATE", ()), (f"PRAGMA user_version={version}", ())], until)


class SavedLogs:
    """The salts of logs in the state; to be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(self, folder: Path, registry: Registry, state: State) -> None:
        self._folder = folder
        self._registry = registry
        self._state = state
        self._files = state.files

    def begin(self, name: str, writer: Writer, until: float) -> None:
        """Save the salts of an open file's log, before the log has the first record."""
        if not read_salts(self._folder / name):
            touch(writer, self._registry.version, until)
        file = self._files.get(name)
        salts = read_salts(self._folder / name)
        if file is not None and file.log != salts:
            self._save(replace(file, log=salts), until)

    def end(self, name: str, writer: Writer, until: float) -> bool:
        """Save that a file needs its log no longer; return False if it still does.

        Closing the file removes the log. A log that is missing although the state names it would be
        reported as a loss at the next start.
        """
        file = self._files.get(name)
        if file is None or not file.log or writer.abandoned:
            return True
        try:
            ((busy, _, _),) = writer.query("PRAGMA wal_checkpoint(FULL)", until)
            if not busy:
                self._save(replace(file, log=()), until)
        except (StoreError, FileDamaged) as error:
            logger.warning("%s: %s: not checkpointed yet: %s", self._folder, name, error)
            return False
        return True

    def _save(self, file: DataFile, until: float) -> None:
        self._state.save_files({file.name: encode_file(file, durable=True)}, until)
        self._files.set_log(file.name, file.log)  # it may be known as damaged by now
