"""The known data files of a store, in little memory: 154 bytes for a closed file.

After years of operation a store has 50,000 files, nearly all of them closed. A closed file is kept
as packed bytes, and becomes a :class:`DataFile` when it is needed.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from portable_core.adapters.sqlite.files import (
    HOUR_MS,
    DataFile,
    Extent,
    format_name,
    parse_name,
)
from portable_core.adapters.sqlite.packed_files import (
    IDENTITY,
    LAST_HOUR,
    PLACE,
    ROWS,
    FileList,
    Item,
    Totals,
    is_checked,
    pack_file,
    pack_place,
    sort_key,
    unpack_file,
)
from portable_core.ports import Milliseconds


class KnownFiles:
    """The known files. Safe to use from any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        #: The closed files, in order.
        self._closed: list[bytes] = []
        self._records = self._bytes = self._unchecked = 0
        #: The same by their highest rowid; None after a change.
        self._by_rows: list[tuple[int, bytes]] | None = None
        #: All other files, by name.
        self._others: dict[str, DataFile] = {}
        #: The highest number of a removed file in each hour. Numbers are not reused: a scan that
        #: began with the removed file would read the new file's rows as that file's.
        self._removed: dict[int, int] = {}
        #: Closed files are checked from the last one on; this is where the check has got to.
        self._unchecked_end = pack_place(LAST_HOUR, 0)

    # -- reading -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._closed) + len(self._others)

    def get(self, name: str) -> DataFile | None:
        with self._mutex:
            return self._get(name)

    def _get(self, name: str) -> DataFile | None:
        if name in self._others:
            return self._others[name]
        place = parse_name(name)
        index = None if place is None else self._find(*place)
        return None if index is None else unpack_file(self._closed[index])

    def _find(self, hour: int, number: int) -> int | None:
        """Return the index of a closed file."""
        place = pack_place(hour, number)
        index = bisect_left(self._closed, place)
        if index < len(self._closed) and self._closed[index].startswith(place):
            return index
        return None

    def list_all(self, first_hour: int = 0, last_hour: int = LAST_HOUR) -> FileList:
        """Return the files of these hours."""
        return self._list(first_hour, last_hour, readable=False)

    def list_readable(self, start: Milliseconds, end: Milliseconds) -> FileList:
        """Return the files that may hold records with ``start <= timestamp < end``, as a snapshot.

        While another process writes, no exact snapshot exists. A refresh then inspects the newest
        file first, so that for each record in it, all records written before are seen too.
        """
        return self._list(max(start, 0) // HOUR_MS, (end - 1) // HOUR_MS, readable=True)

    def _list(self, first_hour: int, last_hour: int, *, readable: bool) -> FileList:
        with self._mutex:
            low = bisect_left(self._closed, pack_place(first_hour, 0))
            high = bisect_left(self._closed, pack_place(min(last_hour, LAST_HOUR) + 1, 0))
            items: list[Item] = list(self._closed[low:high])
            others = list(self._others.values())
        for file in others:
            chosen = not readable or (file.readable and file.extent.rows)
            if chosen and first_hour <= file.hour <= last_hour:
                insort(items, file, key=sort_key)
        return FileList(items)

    def list_hour(self, hour: int) -> FileList:
        return self.list_all(hour, hour)

    def list_others(self) -> list[DataFile]:
        """Return the files that are not closed, in order."""
        with self._mutex:
            return sorted(self._others.values(), key=sort_key)

    def list_first_hour(self) -> FileList:
        """Return the readable files of the first hour with records."""
        return self._list_edge(self._closed[:1], min)

    def list_last_hour(self) -> FileList:
        """Return the readable files of the last hour with records."""
        return self._list_edge(self._closed[-1:], max)

    def _list_edge(self, closed: list[bytes], choose: Callable[[list[int]], int]) -> FileList:
        others = [file.hour for file in self.list_others() if file.readable and file.extent.rows]
        hours = [*others, *(PLACE.unpack_from(row)[0] for row in closed)]
        if not hours:
            return FileList([])
        hour = choose(hours)
        return self._list(hour, hour, readable=True)

    def list_identities(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Return hour, number, inode, size and mtime of each closed file, as a snapshot."""
        with self._mutex:
            closed = list(self._closed)
        return map(IDENTITY.unpack_from, closed)

    def find_writable(self, hour: int) -> DataFile | None:
        """Return the last file of this hour to which records may be added; None if there is none.

        The same as the last writable one of :meth:`list_hour`, for every append.
        """
        with self._mutex:
            files = [file for file in self._others.values() if file.hour == hour and file.writable]
            low = bisect_left(self._closed, pack_place(hour, 0))
            if low < len(self._closed):
                high = bisect_left(self._closed, pack_place(hour + 1, 0), low)
                closed = map(unpack_file, self._closed[low:high])
                files += [file for file in closed if file.writable]
        return files[0] if len(files) == 1 else max(files, key=sort_key, default=None)

    def next_number(self, hour: int) -> int:
        """Return the number for a new file of this hour."""
        numbers = [file.number for file in self.list_hour(hour)]
        return max([self._removed.get(hour, -1), *numbers]) + 1

    def find_newest_writable(self) -> DataFile | None:
        """Return the last file to which records may be added; None if there is none."""
        with self._mutex:
            files = [file for file in self._others.values() if file.writable]
            files += [unpack_file(row) for row in self._closed[-1:]]
        return max(files, key=sort_key, default=None)

    def find_highest_row(self) -> int:
        """Return the highest rowid of all files, readable or not."""
        return self._find_highest_row(readable=False)

    def find_newest_row(self) -> int:
        """Return the highest rowid that readers may see."""
        return self._find_highest_row(readable=True)

    def _find_highest_row(self, *, readable: bool) -> int:
        with self._mutex:
            others = self._others.values()
            rows = [file.extent.rows for file in others if file.readable or not readable]
            return max([0, *rows, *(row for row, _ in self._list_by_rows()[-1:])])

    def list_after(self, rowid: int) -> list[DataFile]:
        """Return the readable files with rows after this one, as a snapshot."""
        with self._mutex:
            others = [file for file in self._others.values() if file.readable]
            by_rows = self._list_by_rows()
            later = by_rows[bisect_left(by_rows, (rowid + 1, b"")) :]
        files = [file for file in others if file.extent.rows > rowid]
        return files + [unpack_file(row) for _, row in later]

    def _list_by_rows(self) -> list[tuple[int, bytes]]:
        if self._by_rows is None:
            rows = ((ROWS.unpack_from(row, IDENTITY.size)[0], row) for row in self._closed)
            self._by_rows = sorted(rows)
        return self._by_rows

    def total(self) -> Totals:
        with self._mutex:
            return Totals(
                len(self._closed),
                self._records,
                self._bytes,
                self._unchecked,
                tuple(self._others.values()),
            )

    # -- changing ----------------------------------------------------------------------------------

    def replace_all(self, files: Iterable[DataFile]) -> None:
        """Know these files alone; those that are closed are unchecked."""
        closed: list[bytes] = []
        others: dict[str, DataFile] = {}
        records = size = 0
        for file in files:
            if file.closed:
                closed.append(pack_file(file, checked=False))
                records += file.extent.count or 0
                size += file.fingerprint[1]
            else:
                others[file.name] = file
        closed.sort()
        with self._mutex:
            self._clear()
            self._closed, self._others = closed, others
            self._records, self._bytes, self._unchecked = records, size, len(closed)

    def put(self, *files: DataFile) -> None:
        """Add or replace these files, in one step."""
        with self._mutex:
            for file in files:
                self._put(file)

    def mark_damaged(self, name: str, reason: str, fingerprint: tuple[int, ...]) -> DataFile | None:
        """Mark a file as damaged and return it; None if it is not readable anyway."""
        with self._mutex:
            file = self._get(name)
            if file is None or not file.readable:
                return None
            file = replace(file, damage=reason, fingerprint=fingerprint, extent=Extent(), log=())
            self._put(file)
            return file

    def seal(self, name: str) -> bool:
        """Make a file one to which nothing is added; return whether it was another one."""
        with self._mutex:
            file = self._get(name)
            if file is None or not file.readable or file.sealed:
                return False
            self._put(replace(file, sealed=True, fingerprint=()))
            return True

    def set_log(self, name: str, log: tuple[int, ...]) -> None:
        """Set the log of a file, if it is still there."""
        with self._mutex:
            file = self._get(name)
            if file is not None and not file.closed:
                self._put(replace(file, log=log))

    def drop(self, names: Iterable[str]) -> None:
        with self._mutex:
            for name in names:
                place = parse_name(name)
                if place is not None:
                    self._remove(*place)
                    hour, number = place
                    self._removed[hour] = max(self._removed.get(hour, 0), number)

    def publish(self, extents: Mapping[str, Extent]) -> None:
        """Make these extents visible to readers, all at once."""
        with self._mutex:
            for name, extent in extents.items():
                if name in self._others:
                    self._others[name] = self._others[name].with_extent(extent)

    def _put(self, file: DataFile) -> None:
        self._remove(file.hour, file.number)
        if file.closed:
            insort(self._closed, pack_file(file, checked=True))
            self._by_rows = None
            self._records += file.extent.count or 0
            self._bytes += file.fingerprint[1]
        else:
            self._others[file.name] = file

    def _remove(self, hour: int, number: int) -> None:
        self._others.pop(format_name(hour, number), None)
        index = self._find(hour, number)
        if index is not None:
            row = self._closed.pop(index)
            self._by_rows = None
            file = unpack_file(row)
            self._records -= file.extent.count or 0
            self._bytes -= file.fingerprint[1]
            self._unchecked -= not is_checked(row)

    # -- checking the closed files -----------------------------------------------------------------

    def next_unchecked(self) -> DataFile | None:
        """Return a closed file that was not read since the store was opened, the last one first.

        It comes again until :meth:`note_checked`.
        """
        with self._mutex:
            index = bisect_left(self._closed, self._unchecked_end)
            while self._unchecked and index:
                index -= 1
                row = self._closed[index]
                self._unchecked_end = row[: PLACE.size] + b"\xff"  # behind it: it may come again
                if not is_checked(row):
                    return unpack_file(row)
            return None

    def note_checked(self, file: DataFile) -> None:
        """Note that the file was read as it is known."""
        with self._mutex:
            if self._get(file.name) == file:
                self._put(file)
