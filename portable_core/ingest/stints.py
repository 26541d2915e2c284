"""The stints of a store's writers, as marks of the store.

The mark of a stint is the largest horizon that it has reported. A stint without a report has no
mark: no master can name it.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress

from portable_core.epochs import Stint
from portable_core.errors import StoreError
from portable_core.ports import Milliseconds, Store

#: The beginning of the names of these marks.
STINT_PREFIX = "stint-"

#: The most stints that a store keeps. A master that names an older one compares from the first
#: record again.
MAX_STINTS = 256


class Stints:
    """The stint of this process, and the earlier ones. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        """Begin a stint."""
        self._store = store
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._id = uuid.uuid4().hex
        self._reported: Milliseconds = 0

    def note(self, horizon: Milliseconds) -> None:
        """Make durable that this stint reports ``horizon``. Raises ``StoreError``."""
        with self._lock:
            horizon = max(horizon, 1)  # a mark at 0 does not exist
            if self._reported and self._store.mark(STINT_PREFIX + self._id) < self._reported:
                self._begin()  # the store was restored while this process used it
            self._store.raise_mark(STINT_PREFIX + self._id, horizon)
            if not self._reported:
                with suppress(StoreError):  # the next process tries again
                    self._forget_oldest()
            self._reported = max(self._reported, horizon)

    def _forget_oldest(self) -> None:
        stints = self._store.marks(STINT_PREFIX)
        for name in sorted(stints, key=lambda name: (stints[name], name))[:-MAX_STINTS]:
            if name != STINT_PREFIX + self._id:
                self._store.set_mark(name, 0)

    def find(self, horizon: Milliseconds) -> str:
        """Return a stint that has reported this horizon or a later one; empty if there is none."""
        with self._lock:
            if max(horizon, 1) <= self._reported:
                return self._id
        stints = self._store.marks(STINT_PREFIX)
        name = max(stints, key=lambda name: (stints[name], name), default="")
        return name.removeprefix(STINT_PREFIX) if stints.get(name, 0) >= max(horizon, 1) else ""

    def knows(self, stint: Stint) -> bool:
        """Return whether the store is one that has reported the horizon of this stint."""
        return self._store.mark(STINT_PREFIX + stint.id) >= max(stint.horizon, 1)
