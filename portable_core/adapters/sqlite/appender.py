"""Appending records to the files of their hours, and removing files."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from portable_core.adapters.sqlite.file_rows import close_file, encode_file
from portable_core.adapters.sqlite.files import (
    HOUR_MS,
    DataFile,
    Extent,
    FileDamaged,
    SyncFailed,
    format_name,
    is_recent,
    measure_size,
    read_closed_fingerprint,
    remove_database,
    translate_error,
)
from portable_core.adapters.sqlite.logs import read_salts
from portable_core.adapters.sqlite.open_files import OpenFiles
from portable_core.adapters.sqlite.places import Places
from portable_core.adapters.sqlite.reader import EXTENT_SQL, TABLE, Reader, make_extent
from portable_core.adapters.sqlite.registry import Registry
from portable_core.adapters.sqlite.saved_logs import SavedLogs, touch
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import ROWS_PER_INSERT, Writer, build_inserts
from portable_core.errors import StoreError
from portable_core.records import Record, format_sort_key, pack_value

logger = logging.getLogger(__name__)

_RecordRows = list[tuple[int, str, bytes]]

#: More bytes than a commit adds to a file and its write-ahead log, besides twice its records.
_COMMIT_BYTES = 64 * 1024

#: Returns the number of rows that the last INSERT added.
_INSERTED = ("SELECT changes()", ())

#: The most damaged files in a row that an append skips before it fails.
_MAX_ATTEMPTS = 5


def group_by_hour(records: Sequence[Record]) -> list[tuple[int, list[tuple[str, bytes]]]]:
    """Return the keys and values of records by their hours, in the order of the hours."""
    hours: defaultdict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for record in records:
        row = (format_sort_key(record.pair), pack_value(record))
        hours[record.pair.timestamp // HOUR_MS].append(row)
    return sorted(hours.items())


class Appender:
    """Writes records; to be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(
        self,
        folder: Path,
        registry: Registry,
        state: State,
        reader: Reader,
        places: Places,
        file_bytes: int,
    ) -> None:
        """Make an appender. Once a file has ``file_bytes``, its hour gets another file."""
        self._folder = folder
        self._registry = registry
        self._files = state.files
        self._state = state
        self._reader = reader
        self.file_bytes = file_bytes
        self._logs = SavedLogs(folder, registry, state)
        self._open = OpenFiles(folder, reader, self._logs.end)
        self._places = places
        #: The most bytes that a file can have: measured once, then counted.
        self._most_bytes: dict[str, int] = {}

    # -- appending ---------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], until: float) -> None:
        """Commit the records, one commit for each hour, and make them visible all at once."""
        self.resolve_pending()
        hours = group_by_hour(records)
        # One hour after the other: of a batch that fails, the rows whose outcome is still open
        # have the last places. The next batch waits for that outcome.
        place = self._places.allocate(len(records), until) if records else 0
        extents: dict[str, Extent] = {}
        try:
            for hour, values in hours:
                rows = [(place + number, *value) for number, value in enumerate(values)]
                place += len(rows)
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
                return file.name, self._insert(file, rows, until)
            except FileDamaged as error:
                self._registry.note_damage(error, until)
        raise StoreError(f"{self._folder}: new files are damaged immediately. Check the disk.")

    def _insert(self, file: DataFile, rows: _RecordRows, until: float) -> Extent:
        """Insert rows into a file; return its extent then.

        The file is asked for it only if some rows were there already, or there are many.
        """
        with self._writing(file.name, until) as writer:
            statements = build_inserts(TABLE, rows)
            if len(rows) > ROWS_PER_INSERT:
                (row,) = writer.commit(statements, until, (EXTENT_SQL, (file.extent.rows,)))
            else:
                row = writer.commit(statements, until, _INSERTED)[0]
                if row == (len(rows),):
                    self._note_growth(file.name, rows)
                    return file.extent.extend([(place, key) for place, key, _ in rows])
                (row,) = writer.query(EXTENT_SQL, until, (file.extent.rows,))
            self._note_growth(file.name, rows)
            return make_extent(row, file.extent)

    def _note_growth(self, name: str, rows: _RecordRows) -> None:
        size = sum([len(key) + len(value) for _, key, value in rows])
        self._most_bytes[name] = (
            self._most_bytes.get(name, self.file_bytes) + 2 * size + _COMMIT_BYTES
        )

    def begin_file(self, hour: int, others: Collection[str], until: float) -> None:
        """See to it that the next records of this hour come into none of the ``others``."""
        files = [file for file in self._files.list_hour(hour) if file.writable]
        if not files or files[-1].name in others:
            self._make_file(hour, until)

    def _choose_file(self, hour: int) -> DataFile | None:
        file = self._files.find_writable(hour)
        if file is None:
            return None
        name = file.name
        if self._most_bytes.get(name, self.file_bytes) >= self.file_bytes:
            self._most_bytes = {name: measure_size(self._folder / name)}
        return file if self._most_bytes[name] < self.file_bytes else None

    def _make_file(self, hour: int, until: float) -> DataFile:
        number = self._files.next_number(hour)
        while self._is_in_use(format_name(hour, number)):
            number += 1
        file = DataFile(hour, number, in_transition=True)
        self._files.put(file)
        try:
            _, inode = self._open.open(file.name, self._registry.version, until, create=True)
            log = read_salts(self._folder / file.name)
            file = replace(file, inode=inode, in_transition=False, log=log)
            self._open.note_log(file.name)
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
        self._open.abandon(name)
        if self._open.ended:
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

    # -- writing to a file -------------------------------------------------------------------------

    @contextmanager
    def _writing(self, name: str, until: float) -> Iterator[Writer]:
        """Yield the file's writer, which is abandoned after an error."""
        try:
            yield self._open_writer(name, until)
        except SyncFailed as error:
            self._open.abandon(name)
            self._seal(name, error)
            raise
        except BaseException:
            self._open.abandon(name)
            raise

    def _open_writer(self, name: str, until: float) -> Writer:
        try:
            writer = self._open.get(name)
        except FileExistsError as error:
            self._open.rescue(name, until)
            self._reader.forget(name)
            self._registry.refresh(lambda: until)
            raise StoreError(f"{name} was replaced while in use. Try again.") from error
        if writer is None:
            self._reopen(name, until)
            writer, _ = self._open.open(name, self._registry.version, until)
            self._logs.begin(name, writer, until)
            self._open.note_log(name)
        return writer

    def _reopen(self, name: str, until: float) -> None:
        """Make a closed file one that is written."""
        file = self._files.get(name)
        if file is not None and file.closed:
            self._files.put(replace(file, fingerprint=()))
            self._state.note_file(name)
            if is_recent(file.fingerprint[2]):  # writing may leave size and mtime as they are
                self._state.save_files({}, until)

    def _seal(self, name: str, reason: object) -> None:
        """Add nothing more to a file: not in this process, and not in the next one."""
        if self._files.seal(name):
            logger.error("%s: nothing more is added to %s: %s", self._folder, name, reason)
            self._state.note_file(name)

    def probe(self, until: float) -> None:
        """Write one page, without a change, to test whether the newest file can be written."""
        file = self._files.find_newest_writable()
        if file is not None:
            try:
                with self._writing(file.name, until) as writer:
                    touch(writer, self._registry.version, until)
            except FileDamaged as error:
                self._registry.note_damage(error, until)  # the next append uses another file

    def measure_logs(self) -> int:
        return self._open.measure_logs()

    # -- closing files -----------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether no statement of a closed or abandoned writer can still be executed."""
        return self._open.ended

    def resolve_pending(self) -> None:
        """Read the outcome of failed writes. Raise ``StoreError`` while it may still change."""
        if not self._open.pending:
            return
        if not self.ended:
            raise StoreError(
                f"{self._folder}: the disk has not finished an earlier write. Try again."
            )
        for name, writer in self._open.pending:
            if writer.sync_failed:
                self._seal(name, "the disk failed to make a write durable")
        for name in {name for name, _ in self._open.pending}:
            file = self._files.get(name)
            if file is not None and file.readable and not file.sealed:
                try:
                    self._resolve(file)
                except FileDamaged as error:
                    self._registry.note_damage(error, time.monotonic() + 1)
        self._open.pending.clear()

    def _resolve(self, file: DataFile) -> None:
        """Read the extent of a file; it is closed unless it is open again."""
        is_open = file.name in self._open
        closed_as = () if is_open else read_closed_fingerprint(self._folder / file.name)
        extent = self._reader.read_summary(
            file.name, self._registry.version, file.extent, alone=bool(closed_as)
        )
        if extent is None:
            raise FileDamaged(file.name, "the file is empty")
        if not self._reader.has_grown_from(file.name, file.extent, extent):
            self._registry.recheck(file, lambda: time.monotonic() + 1)  # it was replaced meanwhile
            return
        self._publish({file.name: extent})
        if file.writable and closed_as:
            self._files.put(close_file(replace(file, extent=extent), closed_as))
            self._state.note_file(file.name)
            if file.log:  # its log is gone after an error
                with suppress(StoreError):
                    self._state.save_files({}, time.monotonic() + 1)

    def merge_logs(self, until: Callable[[], float]) -> None:
        """Move the write-ahead logs that a crash has left into their files."""
        for file in self._files.list_others():
            if file.writable and not read_closed_fingerprint(self._folder / file.name):
                try:
                    self._open_writer(file.name, until())
                    self._open.close(0, until())
                except FileDamaged as error:
                    self._registry.note_damage(error, until())
        self.resolve_pending()

    def close(self, until: float) -> None:
        self._open.close(0, until)
        if self.ended:
            self.resolve_pending()
