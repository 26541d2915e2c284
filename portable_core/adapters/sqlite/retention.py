"""The choice of files that retention by bytes removes.

A data file counts with its write-ahead log and its index file, which is removed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portable_core.adapters.sqlite.files import FIRST_PLACE, DataFile, measure_size
from portable_core.adapters.sqlite.index_files import list_index_sizes
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.adapters.sqlite.scanner import find_first, find_last
from portable_core.ports import Milliseconds
from portable_core.records import Pair


def choose_oldest(folder: Path, files: KnownFiles, limit: int) -> list[DataFile]:
    """Return the oldest files, so that the others occupy at most ``limit`` bytes.

    The newest file is never returned, because current records are written to it. If that file alone
    is larger than ``limit``, the limit is exceeded until the next file is created.
    """
    totals, index = files.total(), list_index_sizes(folder)
    stable = [file for file in totals.others if not file.in_transition]
    total = totals.bytes + sum(measure_file(folder, file) for file in stable)
    total += sum(index.values())
    chosen: list[DataFile] = []
    if total <= limit:
        return chosen
    for file in [file for file in files.list_all() if not file.in_transition][:-1]:
        if total <= limit:
            break
        size = measure_file(folder, file) + index.get(file.name, 0)
        if size:
            chosen.append(file)
            total -= size
    return chosen


def find_size_cut(
    folder: Path, files: KnownFiles, limit: int, before: Milliseconds
) -> Milliseconds:
    """Return the end of the last hour to remove, so that the hours before ``before`` fit."""
    stable = [file for file in files.list_all() if not file.in_transition]
    if not stable:
        return 0
    index = list_index_sizes(folder)
    sizes = [
        (file.end, measure_file(folder, file) + index.get(file.name, 0))
        for file in stable
        if file.end <= before
    ]
    rest, cut = sum(size for _, size in sizes), 0
    for hour_end, size in sizes:
        if rest <= limit or hour_end > stable[-1].start:
            break
        rest -= size
        cut = hour_end
    return cut


def find_first_hour(files: Sequence[DataFile], after: Pair | None) -> Milliseconds | None:
    """Return the start of the first hour of these files; None without any.

    ``after``: an older version stored the records, and those up to this pair do not count.
    """
    starts = [
        file.start
        for file in files
        if after is None or file.extent.rows >= FIRST_PLACE or file.end > after.timestamp
    ]
    return min(starts, default=None)


def measure_file(folder: Path, file: DataFile) -> int:
    """Return the bytes of a file, with its write-ahead log."""
    return file.fingerprint[1] if file.closed else measure_size(folder / file.name)


def find_gap(
    files: Sequence[DataFile], asked: Milliseconds
) -> tuple[Milliseconds, Milliseconds] | None:
    """Return the window of the records in these files from ``asked`` on; None without any."""
    windows = [window for file in files if (window := _find_window(file)) is not None]
    start = max(min((start for start, _ in windows), default=0), asked)
    end = max((end for _, end in windows), default=0)
    return (start, end) if start < end else None


def _find_window(file: DataFile) -> tuple[Milliseconds, Milliseconds] | None:
    if file.damage:
        return (file.start, file.end)
    if not file.extent.rows:
        return None
    first, last = find_first([file]), find_last([file])
    return None if first is None or last is None else (first, last + 1)
