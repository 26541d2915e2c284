"""Appending records to the files of their hours, and removing files."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from portable_core.adapters.sqlite.file_rows import close_file, encode_file
from portable_core.adapters.sqlite.files import (
    HOUR_MS,
    DataFile,
    Extent,
    FileDamaged,
    format_name,
    is_recent,
    measure_size,
    parse_name,
    read_closed_fingerprint,
    remove_database,
    sync_folder,
    translate_error,
)
from portable_core.adapters.sqlite.reader import EXTENT_SQL, TABLE, Reader, make_extent
from portable_core.adapters.sqlite.registry import Registry
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import Writer, build_inserts
from portable_core.errors import StoreError
from portable_core.records import Record, format_sort_key, pack_value

logger = logging.getLogger(__name__)

_RecordRows = list[tuple[str, bytes]]

#: The most files open for writing: one for the current hour, the others for recovered records.
_MAX_OPEN_FILES = 3

#: The most damaged files in a row that an append skips before it fails.
_MAX_ATTEMPTS = 5


def _parse_place(name: str) -> tuple[int, int]:
    return parse_name(name) or (-1, -1)


class Appender:
    """Writes records; to be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(
        self, folder: Path, registry: Registry, state: State, reader: Reader, file_bytes: int
    ) -> None:
        """Make an appender. Once a file has ``file_bytes``, its hour gets another file."""
        self._folder = folder
        self._registry = registry
        self._files = state.files
        self._state = state
        self._reader = reader
        self.file_bytes = file_bytes
        #: The writers with the inodes of their files, least recently used first.
        self._writers: OrderedDict[str, tuple[Writer, int]] = OrderedDict()
        #: Closed and abandoned writers, by file, until their threads have ended.
        self._pending: list[tuple[str, Writer]] = []

    # -- appending ---------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], until: float) -> None:
        """Commit the records, one commit for each hour, and make them visible all at once."""
        self.resolve_pending()
        hours: defaultdict[int, _RecordRows] = defaultdict(list)
        for record in records:
            row = (format_sort_key(record.pair), pack_value(record))
            hours[record.pair.timestamp // HOUR_MS].append(row)
        extents: dict[str, Extent] = {}
        try:
            for hour, rows in sorted(hours.items()):
                name, extent = self._append_to_hour(hour, rows, until)
                extents[name] = extent
        finally:
            self._publish(extents)

    def _publish(self, extents: Mapping[str, Extent]) -> None:
        """Make durable extents visible, and let the state save them."""
        before = {name: self._files.get(name) for name in extents}
        self._files.publish(extents)
        for name, file in before.items():
            if file is not None and extents[name].rows > file.extent.rows:
                self._state.note_file(name)

    def _append_to_hour(self, hour: int, rows: _RecordRows, until: float) -> tuple[str, Extent]:
        for _ in range(_MAX_ATTEMPTS):
            file = self._choose_file(hour) or self._make_file(hour, until)
            try:
                writer = self._open_writer(file.name, until)
                statements = build_inserts(TABLE, rows)
                (row,) = writer.commit(statements, until, then=EXTENT_SQL)
                return file.name, make_extent(row)
            except FileDamaged as error:
                self._abandon_writer(file.name)
                self._registry.note_damage(error, until)
            except BaseException:
                self._abandon_writer(file.name)
                raise
        raise StoreError(f"{self._folder}: new files are damaged immediately. Check the disk.")

    def _choose_file(self, hour: int) -> DataFile | None:
        files = [file for file in self._files.list_hour(hour) if file.writable]
        if files and measure_size(self._folder / files[-1].name) < self.file_bytes:
            return files[-1]
        return None

    def _make_file(self, hour: int, until: float) -> DataFile:
        number = self._files.next_number(hour)
        while self._is_in_use(format_name(hour, number)):
            number += 1
        file = DataFile(hour, number, in_transition=True)
        self._files.put(file)
        try:
            writer = self._start_writer(file.name, until)
            inode = self._read_inode(file.name)
            self._writers[file.name] = (writer, inode)
            file = replace(file, inode=inode, in_transition=False)
            # Saved before the first record is written: from then on, an empty file is damaged.
            self._state.save_files({file.name: encode_file(file)}, until)
        except FileDamaged as error:
            self._discard_file(file.name)
            raise translate_error(error, file.name) from error
        except BaseException:
            self._discard_file(file.name)
            raise
        self._files.put(file)
        return file

    def _discard_file(self, name: str) -> None:
        """Forget a file whose creation failed, and remove it as far as it exists."""
        self._abandon_writer(name)
        if self.ended:
            with suppress(StoreError):
                remove_database(self._folder / name)
        self._files.drop([name])
        self._state.note_file(name)  # its row may have been saved

    def _is_in_use(self, name: str) -> bool:
        """Return whether a file of that name exists and is not empty."""
        try:
            return os.path.exists(self._folder / name) and self._reader.read_format(name) != (0, 0)
        except FileDamaged:
            return True

    # -- writers -----------------------------------------------------------------------------------

    def _open_writer(self, name: str, until: float) -> Writer:
        known = self._writers.get(name)
        if known is not None:
            writer, inode = known
            if self._read_inode(name) != inode:  # records written now would go into a removed file
                self._abandon_writer(name)
                self._registry.refresh(lambda: until)
                raise StoreError(f"{name} was replaced while in use. Try again.")
            self._writers.move_to_end(name)
            return writer
        inode = self._read_inode(name)
        file = self._files.get(name)
        if file is not None and file.closed:
            self._reopen(file, until)
        writer = self._start_writer(name, until)
        self._writers[name] = (writer, inode)
        return writer

    def _reopen(self, file: DataFile, until: float) -> None:
        """Make a closed file one that is written."""
        self._files.put(replace(file, fingerprint=()))
        self._state.note_file(file.name)
        if is_recent(file.fingerprint[2]):  # writing may leave size and mtime as they are
            self._state.save_files({}, until)

    def _start_writer(self, name: str, until: float) -> Writer:
        newest = max([name, *self._writers], key=_parse_place)
        if name == newest:
            self._close_writers(0, until)  # the hours of the other files have passed
        else:
            self._close_writers(_MAX_OPEN_FILES - 1, until)
        writer = Writer(self._folder / name, (TABLE,), self._registry.version)
        try:
            writer.open(until)
        except BaseException:
            self._pending.append((name, writer))
            raise
        return writer

    def _read_inode(self, name: str) -> int:
        try:
            return os.stat(self._folder / name).st_ino
        except FileNotFoundError as error:
            raise FileDamaged(name, "the file is missing") from error
        except OSError as error:
            raise translate_error(error, name) from error

    def _close_writers(self, keep: int, until: float) -> None:
        """Close all but the last ``keep``; closed files are complete without write-ahead logs."""
        while len(self._writers) > keep:
            name, (writer, _) = self._writers.popitem(last=False)
            self._reader.forget(name)
            self._pending.append((name, writer))
            try:
                writer.close(until)
            except StoreError as error:  # the records are safe in the write-ahead log
                logger.warning("%s: not checkpointed yet: %s", self._folder, error)

    def _abandon_writer(self, name: str) -> None:
        known = self._writers.pop(name, None)
        if known is not None:
            known[0].abandon()
            self._pending.append((name, known[0]))

    def probe(self, until: float) -> None:
        """Write one page, without a change, to test whether the newest file can be written."""
        file = self._files.find_newest_writable()
        if file is not None:
            name = file.name
            version = f"PRAGMA user_version={self._registry.version}"  # the value it has already
            statements = [("BEGIN IMMEDIATE", ()), (version, ())]
            try:
                self._open_writer(name, until).commit(statements, until)
            except FileDamaged as error:
                self._abandon_writer(name)
                self._registry.note_damage(error, until)  # the next append uses another file
            except BaseException:
                self._abandon_writer(name)
                raise

    def measure_logs(self) -> int:
        """Return the bytes in the write-ahead logs of open files; the files may grow by as much."""
        return sum(measure_size(self._folder / f"{name}-wal") for name in self._writers)

    @property
    def ended(self) -> bool:
        """Whether no statement of a closed or abandoned writer can still be executed."""
        return all(writer.ended for _, writer in self._pending)

    def resolve_pending(self) -> None:
        """Read the outcome of failed writes. Raise ``StoreError`` while it may still change."""
        if not self._pending:
            return
        if not self.ended:
            raise StoreError(
                f"{self._folder}: the disk has not finished an earlier write. Try again."
            )
        for name in {name for name, _ in self._pending}:
            file = self._files.get(name)
            if file is not None and file.readable:
                try:
                    self._resolve(file)
                except FileDamaged as error:
                    self._registry.note_damage(error, time.monotonic() + 1)
        self._pending.clear()

    def _resolve(self, file: DataFile) -> None:
        """Read the extent of a file; it is closed unless it is open again."""
        is_open = file.name in self._writers
        closed_as = () if is_open else read_closed_fingerprint(self._folder / file.name)
        extent = self._reader.read_summary(file.name, self._registry.version, alone=bool(closed_as))
        if extent is None:
            raise FileDamaged(file.name, "the file is empty")
        self._publish({file.name: extent})
        if file.writable and closed_as:
            self._files.put(close_file(replace(file, extent=extent), closed_as))
            self._state.note_file(file.name)

    def merge_logs(self, until: Callable[[], float]) -> None:
        """Move the write-ahead logs that a crash has left into their files."""
        for file in self._files.list_others():
            if file.writable and not read_closed_fingerprint(self._folder / file.name):
                try:
                    self._open_writer(file.name, until())
                    self._close_writers(0, until())
                except FileDamaged as error:
                    self._registry.note_damage(error, until())
        self.resolve_pending()

    def close(self, until: float) -> None:
        self._close_writers(0, until)
        if self.ended:
            self.resolve_pending()

    # -- removing ----------------------------------------------------------------------------------

    def remove(self, files: Sequence[DataFile], until: float) -> int:
        """Remove files; return their bytes.

        The state first marks the files as in transition. If this process crashes during the
        removal, the next one completes it (:meth:`finish_removals`).
        """
        self.resolve_pending()
        marked = [replace(file, in_transition=True) for file in files]
        size = sum(measure_size(self._folder / file.name) for file in files)
        self._state.save_files({file.name: encode_file(file) for file in marked}, until)
        self._files.put(*marked)
        for file in marked:
            self._abandon_writer(file.name)
            self._reader.forget(file.name)
        self.finish_removals(until)
        return size

    def finish_removals(self, until: float) -> None:
        names = [file.name for file in self._files.list_others() if file.in_transition]
        if names:
            for name in names:
                remove_database(self._folder / name)
            sync_folder(self._folder)
            self._state.save_files(dict.fromkeys(names), until)
            self._files.drop(names)
