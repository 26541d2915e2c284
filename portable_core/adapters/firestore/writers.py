"""The places of pages in the order of arrival: the id of a writer, and a number that it counts.

No transaction orders the commits of several processes. So the order is that of each **writer**,
which sends one commit after the other, and a position has a number for each writer. A thread that
commits borrows a writer of its process. After a commit that failed its writer is not used again:
the commit may still become visible, and nothing of that writer may follow it.

The id begins with the time of Firestore's clock at which the writer was made, and a writer is used
for an hour. So a reader knows that the writers of earlier hours are complete, and its position
needs the newer ones alone.

Imported segments have the id :data:`IMPORTED`, which sorts before all writers, and the time and the
digest of their pairs instead of a number: they sort by time, in whatever order they were imported.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from portable_core.ports import Milliseconds

#: The length of a writer's id: 11 digits of the time in ms, and 5 random ones.
_TIME_DIGITS = 11
_ID_DIGITS = 16

_USED_S = 3600.0

#: Stands for the writer of imported segments.
IMPORTED = "0" * _ID_DIGITS

HOUR_MS = 3_600_000


def format_place(writer: str, number: int) -> str:
    """Return the place of a page; places of one writer sort by their numbers."""
    return f"{writer}-{number:012x}"


def format_imported_place(timestamp: Milliseconds, digest: str) -> str:
    """Return the place of an imported segment with this first timestamp."""
    return f"{IMPORTED}-{timestamp:014x}{digest}"


def is_imported(place: str) -> bool:
    return place.startswith(f"{IMPORTED}-")


def end_of_writer(writer: str) -> str:
    """Return text after all places of a writer, and before those of the next one."""
    return f"{writer}."


def parse_place(place: str) -> tuple[str, int]:
    """Return the writer and the number of a place. Raise ``ValueError``."""
    return place[:_ID_DIGITS], int(place[_ID_DIGITS + 1 :], 16)


def format_time(made: Milliseconds) -> str:
    """Return text before all writers that were made at this time or later."""
    return f"{max(made, 0):0{_TIME_DIGITS}x}"


def find_complete(now_ns: int) -> Milliseconds:
    """Return the time before which writers are complete, with an hour for a commit that hangs.

    It is a whole hour, so that positions change rarely.
    """
    return max(now_ns // 1_000_000 // HOUR_MS - 2, 0) * HOUR_MS


def read_time(writer: str) -> Milliseconds:
    """Return when a writer was made."""
    return int(writer[:_TIME_DIGITS], 16)


class Writer:
    """One sequence of commits, for one thread at a time."""

    def __init__(self, now_ns: int, made: float) -> None:
        self.id = f"{format_time(now_ns // 1_000_000)}{secrets.randbelow(16**5):05x}"
        self.made = made
        self._number = 0

    def next_place(self) -> str:
        self._number += 1
        return format_place(self.id, self._number)


class Writers:
    """The writers of one process. Safe to use from any thread."""

    def __init__(self, now_ns: Callable[[], int], elapsed: Callable[[], float]) -> None:
        """``now_ns`` returns the time of Firestore's clock; ``elapsed`` seconds that only grow."""
        self._now_ns = now_ns
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._idle: list[Writer] = []

    @contextmanager
    def borrow(self) -> Iterator[Writer]:
        """Yield a writer that no other thread uses; after an error it is not used again."""
        with self._lock:
            writer = self._idle.pop() if self._idle else None
        if writer is None or self._elapsed() - writer.made >= _USED_S:
            writer = Writer(self._now_ns(), self._elapsed())
        yield writer
        with self._lock:
            self._idle.append(writer)
