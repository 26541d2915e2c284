"""The methods of a store for the order of arrival, its consumers, and deleted webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from portable_core.adapters.firestore import consumers
from portable_core.adapters.firestore.arrivals import find_newest, read_arrivals
from portable_core.adapters.firestore.erasing import Eraser
from portable_core.adapters.firestore.reading import Reader
from portable_core.adapters.firestore.retention import RetentionReader
from portable_core.listeners import Listeners
from portable_core.ports import BEGINNING, Arrival, ConsumerState, Milliseconds, Tombstone


class FirestoreArrivals:
    """The order of arrival, registered consumers, and deleted webhooks."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._source = reader.source
        self._database = reader.source.database
        self._eraser = Eraser(reader)
        self._retention = RetentionReader(reader.source)
        self._listeners = Listeners()

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        """Return the records of each writer in the order of its commits; see :mod:`.writers`."""
        return read_arrivals(self._reader, after)

    def find_earlier(self, position: str, count: int) -> str:
        return position

    def newest_arrival(self) -> str:
        return find_newest(self._source)

    def on_arrival(self, notify: Callable[[], object]) -> Callable[[], None]:
        return self._listeners.add(notify)

    def find_first_after(self, position: str) -> Milliseconds | None:
        return self._retention.find_first_after(position)

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        return self._retention.find_size_cut(limit, before)

    def erase(self, tombstones: Sequence[Tombstone]) -> int:
        return self._eraser.erase(tombstones)

    def tombstones(self, after: int = 0) -> Iterator[tuple[int, Tombstone]]:
        return self._eraser.iterate(after)

    def consumers(self) -> dict[str, ConsumerState]:
        return consumers.read_consumers(self._database)

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        consumers.save_consumer(self._database, name, state)
