"""The few data files that are open for writing."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portable_core.adapters.sqlite.files import (
    FileDamaged,
    parse_name,
    translate_error,
)
from portable_core.adapters.sqlite.folder_watch import (
    FolderState,
    read_folder_state,
    reveals_changes,
)
from portable_core.adapters.sqlite.logs import hold_log, read_log_inode
from portable_core.adapters.sqlite.reader import TABLE, Reader
from portable_core.adapters.sqlite.writer import Writer
from portable_core.errors import StoreError

logger = logging.getLogger(__name__)

#: The most files open for writing: one for the current hour, the others for recovered records.
_MOST = 3


def _parse_place(name: str) -> tuple[int, int]:
    return parse_name(name) or (-1, -1)


@dataclass(slots=True)
class _OpenFile:
    """A file that is open for writing.

    - ``log``: the inode of its write-ahead log; 0 without one.
    - ``verified``: the state of the folder in which both inodes were found, if a change would
      reveal itself. While it stays, the store does not read the times of the log: since version
      6.13, Linux records the exact time of the write that follows, and ``fdatasync`` of a small
      commit takes 1.6 times as long.
    """

    writer: Writer
    inode: int
    log: int = 0
    verified: FolderState | None = None


class OpenFiles:
    """Writers by the name of their file; to be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(
        self, folder: Path, reader: Reader, before_close: Callable[[str, Writer, float], bool]
    ) -> None:
        """``before_close`` is called with the name and the writer of a file that will be closed.

        It returns whether the write-ahead log of the file may be removed.
        """
        self._before_close = before_close
        self._folder = folder
        self._prefix = f"{folder}/"  # of paths that each append needs
        self._reader = reader
        #: Least recently used first.
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        #: Connections that keep the logs of closed files, until the process ends.
        self._held: list[sqlite3.Connection] = []
        #: Closed and abandoned writers, by file, until their threads have ended.
        self.pending: list[tuple[str, Writer]] = []

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def get(self, name: str) -> Writer | None:
        """Return the writer of a file, None if the file is not open.

        Raise ``FileExistsError`` if another file has its name, or that of its write-ahead log, now:
        records would go into a removed one.
        """
        file = self._files.get(name)
        if file is None:
            return None
        state = read_folder_state(self._prefix)
        if state != file.verified:
            if self._read_inode(name) != file.inode or not self._has_log(name, file):
                raise FileExistsError(name)
            file.verified = state if reveals_changes(state) else None
        self._files.move_to_end(name)
        return file.writer

    def open(
        self, name: str, version: int, until: float, *, create: bool = False
    ) -> tuple[Writer, int]:
        """Open a file, or ``create`` it; return its writer and its inode."""
        newest = max([name, *self._files], key=_parse_place)
        # After the newest file was opened, the hours of the others have passed.
        self.close(0 if name == newest else _MOST - 1, until)
        before = 0 if create else self._read_inode(name)  # SQLite would create a missing file
        writer = Writer(self._folder / name, (TABLE,), version)
        try:
            writer.open(until)
            inode = before or self._read_inode(name)
        except BaseException:
            writer.abandon()
            self.pending.append((name, writer))
            raise
        self._files[name] = _OpenFile(writer, inode)
        return writer, inode

    def note_log(self, name: str) -> None:
        """Remember the write-ahead log of an open file."""
        self._files[name].log = read_log_inode(self._folder / name)

    def _has_log(self, name: str, file: _OpenFile) -> bool:
        return not file.log or read_log_inode(self._prefix + name) == file.log

    def rescue(self, name: str, until: float) -> None:
        """Close a file after moving what its connection still has of the log into it."""
        try:
            self._files[name].writer.query("PRAGMA wal_checkpoint(FULL)", until)
        except (StoreError, FileDamaged) as error:
            logger.error("%s: %s: its log cannot be rescued: %s", self._folder, name, error)
        self.abandon(name)

    def _read_inode(self, name: str) -> int:
        try:
            return os.stat(self._prefix + name).st_ino
        except FileNotFoundError as error:
            raise FileDamaged(name, "the file is missing") from error
        except OSError as error:
            raise translate_error(error, name) from error

    def close(self, keep: int, until: float) -> None:
        """Close all but the last ``keep``; closed files are complete without write-ahead logs."""
        while len(self._files) > keep:
            name, file = self._files.popitem(last=False)
            writer = file.writer
            self._reader.forget(name)
            complete = self._before_close(name, writer, until)
            self.pending.append((name, writer))
            try:
                if not complete:
                    self._held.append(hold_log(self._folder / name))
                    writer.abandon()
                writer.close(until)  # does nothing after that
            except (StoreError, sqlite3.Error) as error:  # the records are safe in the log
                logger.warning("%s: not checkpointed yet: %s", self._folder, error)

    def abandon(self, name: str) -> None:
        file = self._files.pop(name, None)
        if file is not None:
            file.writer.abandon()
            self.pending.append((name, file.writer))

    @property
    def ended(self) -> bool:
        """Whether no statement of a closed or abandoned writer can still be executed."""
        return all(writer.ended for _, writer in self.pending)

    def measure_logs(self) -> int:
        """Return the bytes in the write-ahead logs of open files; the files may grow by as much."""
        size = 0
        for name in self._files:
            with suppress(OSError):  # no write-ahead log
                size += os.stat(f"{self._prefix}{name}-wal").st_size
        return size
