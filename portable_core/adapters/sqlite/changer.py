"""Changing files otherwise than by appending: importing, erasing, removing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from portable_core.adapters.sqlite.appender import Appender, group_by_hour
from portable_core.adapters.sqlite.file_rows import encode_file
from portable_core.adapters.sqlite.files import (
    FIRST_PLACE,
    DataFile,
    measure_size,
    remove_database,
    sync_folder,
)
from portable_core.adapters.sqlite.index_files import remove_index_file
from portable_core.adapters.sqlite.reader import TABLE
from portable_core.adapters.sqlite.registry import describe_file
from portable_core.records import Record

_ERASE_SQL = f"UPDATE {TABLE} SET value = ? WHERE key = ?"  # noqa: S608 -- no outside text in it


class Changer(Appender):
    """Writes, erases and removes records; to be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``.
    """

    # -- importing ---------------------------------------------------------------------------------

    def append_older(self, records: Sequence[Record], until: float) -> None:
        """Commit records without a place, as an older version did: in files of their own."""
        self.resolve_pending()
        for hour, values in group_by_hour(records):
            files = [file for file in self._files.list_hour(hour) if file.writable]
            known = bool(files) and files[-1].extent.rows + len(values) < FIRST_PLACE
            file = files[-1] if known else self._make_file(hour, until)
            first = file.extent.rows + 1
            rows = [(first + number, *value) for number, value in enumerate(values)]
            self._publish({file.name: self._insert(file, rows, until)})

    # -- erasing -----------------------------------------------------------------------------------

    def erase(self, name: str, rows: Sequence[tuple[str, bytes]], until: float) -> None:
        """Replace the values of some keys of a file, overwrite the old ones, close the file.

        So no write-ahead log has an old value. The rows stay where they are.
        """
        with self._writing(name, until) as writer:
            writer.query("PRAGMA secure_delete=ON", until)
            writer.commit([(_ERASE_SQL, (value, key)) for key, value in rows], until)
        self._open.close(0, until)
        if self.ended:
            self.resolve_pending()

    # -- removing ----------------------------------------------------------------------------------

    def remove(self, files: Sequence[DataFile], until: float) -> int:
        """Remove files; return their bytes.

        The state first marks the files as in transition. If this process crashes during the
        removal, the next one completes it (:meth:`finish_removals`).
        """
        size = sum(measure_size(self._folder / file.name) for file in files)
        self.retire(files, until)
        self.finish_removals(until)
        return size

    def retire(self, files: Sequence[DataFile], until: float) -> None:
        """Mark files as in transition, so that the next :meth:`finish_removals` removes them."""
        self.resolve_pending()
        marked = [replace(file, in_transition=True) for file in files]
        lost = [describe_file(file) for file in files if file.damage or file.loss]
        values = {file.name: encode_file(file) for file in marked}
        self._state.save_files(values, until, removed=lost)
        self._files.put(*marked)
        for file in marked:
            self._open.abandon(file.name)
            self._reader.forget(file.name)

    def finish_removals(self, until: float) -> None:
        names = [file.name for file in self._files.list_others() if file.in_transition]
        if names:
            for name in names:
                remove_database(self._folder / name)
                remove_index_file(self._folder, name)
            sync_folder(self._folder)
            self._state.save_files(dict.fromkeys(names), until)
            self._files.drop(names)
