"""The ports of the order of arrival and of its consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from portable_core.ports.values import Milliseconds
from portable_core.records import Record

#: The position before a store's first record in the order of arrival.
BEGINNING = ""


class Arrival(NamedTuple):
    """A record in the order of arrival; reading continues after ``position``."""

    position: str
    record: Record


class ArrivalOrder(Protocol):
    """The order in which the records of a store were committed. It never changes.

    Nothing is ever added before a position that was returned. A position is text that this store
    alone can read, of at most 8,000 lower-case letters, digits, dots and hyphens.
    """

    def arrivals(self, after: str = BEGINNING) -> Iterator[Arrival]:
        """Yield the records after a position, in the order of their commits, in bounded memory.

        The result is a snapshot. Raises ``BadRequest`` for text that is not a position, and
        ``PositionUnknown`` for a position that this store did not give out, with the first item.
        """
        ...

    def newest_arrival(self) -> str:
        """Return the position after the newest record."""
        ...

    def find_earlier(self, position: str, count: int) -> str:
        """Return a position at most ``count`` records before this one; the same, if none is known.

        Raises as :meth:`arrivals` does.
        """
        ...

    def on_arrival(self, notify: Callable[[], object]) -> Callable[[], None]:
        """Call ``notify`` after each commit, until the returned function is called.

        It is called in the thread that commits, and must neither wait nor raise. A shared store
        does not call it for the commits of other processes.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A registered consumer of the arrival feed: its position, and when that was saved."""

    position: str
    saved: Milliseconds


class ConsumerStates(Protocol):
    """The registered consumers of the arrival feed."""

    def consumers(self) -> dict[str, ConsumerState]: ...

    def save_consumer(self, name: str, state: ConsumerState | None) -> None:
        """Save a consumer, durably; None deletes it. Idempotent."""
        ...
