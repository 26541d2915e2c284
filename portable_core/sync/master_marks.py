"""How far each master has synced a slave: one mark for each, and retention waits for the slowest.

A master names itself by the UUID of its store. Its mark is the start of its last request: every
record before it is represented in that master. It is set, not raised: a master that was restored
from a backup asks for earlier windows again, and its mark starts again there. Masters of older
releases do not name themselves, and share one mark.

Each generation of the slave's store has marks of its own, since records may have come back that no
master's cursor has passed. A master that has asked in an earlier generation only has passed
nothing.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence

import msgspec

from portable_core.errors import StoreError
from portable_core.ports import UUID_PATTERN, Milliseconds, Store, StoreInfo

logger = logging.getLogger(__name__)

_PREFIX = "asked-"
_NAME = re.compile(rf"{_PREFIX}([0-9]+)(?:-({UUID_PATTERN}))?")

#: The name for people of the masters that do not name themselves.
ANONYMOUS = "anonymous"


class MasterMark(msgspec.Struct, frozen=True):
    """A master as a slave knows it.

    - ``master``: the UUID of its store, or ``anonymous``.
    - ``asked``: the start of its last request; 0 if there was none since the slave's store has its
      current generation.
    - ``late``: whether the slave has a record that is older than ``RETENTION_LATE_S`` and that this
      master has not passed. Retention waits for it.
    """

    master: str
    asked: Milliseconds
    late: bool


class MastersDocument(msgspec.Struct, frozen=True):
    """The document of ``GET /masters``."""

    masters: Sequence[MasterMark]


class MasterMarks:
    """The marks of all masters in the store of a slave. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        #: The marks that this process has set, and the values that it could not save.
        self._known: set[str] = set()
        self._unsaved: dict[str, Milliseconds] = {}

    def note(self, info: StoreInfo, master: str, asked: Milliseconds) -> None:
        """Note that a request of ``master`` starts at ``asked``, durably if the store can.

        A request from 0 on without a name is one of a person, and is not noted: a master begins at
        the first record.
        """
        if not master and not asked:
            return
        name, asked = _format_name(info.generation, master), max(asked, 1)
        with self._lock:
            try:
                self._save(name, master, asked)
            except StoreError as error:  # retention can wait for the next request, the sync cannot
                self._unsaved[name] = asked
                logger.warning("the retention mark is not saved: %s", error)
            else:
                self._unsaved.pop(name, None)

    def _save(self, name: str, master: str, asked: Milliseconds) -> None:
        old: list[str] = []
        if name not in self._known:
            marks = {mark: _parse_name(mark)[1] for mark in self._read()}
            old = [mark for mark, its in marks.items() if its == master and mark != name]
            if master and not any(marks.values()):
                # The mark of the time before masters named themselves belongs to the first one that
                # does. Without it nothing is removed, so an interruption here does no harm.
                for mark in marks:
                    self._store.set_mark(mark, 0)
        self._store.set_mark(name, asked)
        self._known.add(name)
        for mark in old:
            self._store.set_mark(mark, 0)

    def find_all(self, info: StoreInfo) -> dict[str, Milliseconds]:
        """Return the mark of each known master by its UUID; the empty name for the anonymous one.

        0 for a master that has not asked in the store's current generation.
        """
        with self._lock:
            found: dict[str, Milliseconds] = {}
            for name, value in self._read().items():
                generation, master = _parse_name(name)
                found.setdefault(master, 0)
                if generation == info.generation:
                    found[master] = min(value, self._unsaved.get(name, value))
            return found

    def find_slowest(self, info: StoreInfo) -> Milliseconds:
        """Return the time before which every known master has all records; 0 if there is none."""
        return min(self.find_all(info).values(), default=0)

    def describe(self, info: StoreInfo, late_before: Milliseconds) -> list[MasterMark]:
        """Return all known masters, the slowest first.

        A master is late if it has not passed a record before ``late_before``.
        """
        marks = sorted((asked, master) for master, asked in self.find_all(info).items())
        return [
            MasterMark(name or ANONYMOUS, asked, late=self._has_records(asked, late_before))
            for asked, name in marks
        ]

    def _has_records(self, start: Milliseconds, end: Milliseconds) -> bool:
        if start >= end:
            return False
        return next(iter(self._store.pairs(start, end)), None) is not None

    def forget(self, master: str) -> bool:
        """Remove the marks of a master, by the name that it has in :meth:`describe`.

        Retention no longer waits for it. If it asks again, it is known again. Returns whether it
        was known.
        """
        uuid = "" if master == ANONYMOUS else master
        with self._lock:
            names = [name for name in self._read() if _parse_name(name)[1] == uuid]
            for name in names:
                self._store.set_mark(name, 0)
                self._known.discard(name)
                self._unsaved.pop(name, None)
            return bool(names)

    def _read(self) -> Mapping[str, Milliseconds]:
        marks = self._store.marks(_PREFIX)
        return {name: value for name, value in marks.items() if _NAME.fullmatch(name)}


def _format_name(generation: int, master: str) -> str:
    return f"{_PREFIX}{generation}" + (f"-{master}" if master else "")


def _parse_name(name: str) -> tuple[int, str]:
    """Return the generation and the master of a mark's name."""
    match = _NAME.fullmatch(name)
    assert match is not None  # noqa: S101  # the caller has matched it
    return int(match[1]), match[2] or ""
