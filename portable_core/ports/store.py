"""The port of a store of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from portable_core.ports.erasing import Erasing
from portable_core.ports.values import Milliseconds
from portable_core.records import Pair, Record


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The identity of a store, its epoch, and its hash algorithm.

    ``uuid`` is created with the store. ``generation`` grows durably whenever records may have
    reappeared before a reported horizon (a damaged file readable again, a file added from outside).
    """

    uuid: str
    generation: int
    algorithm: str


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a store that cannot be read, or that has lost records.

    ``start`` and ``end`` are the times of its records, None if they are unknown.
    """

    name: str
    reason: str
    start: Milliseconds | None = None
    end: Milliseconds | None = None


#: The reason of a loss by retention; its name is ``gap``.
GAP_REASON = "RETENTION_BYTES removed records that no master may have"


class QuarantineSize(NamedTuple):
    """How many records the quarantine has, and how many bytes they occupy."""

    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store in ``/status``. None for a value that would be expensive to find."""

    records: int | None
    first: Milliseconds | None
    last: Milliseconds | None
    bytes: int | None = None
    files: int | None = None
    damaged: tuple[Damage, ...] = ()
    #: Windows of records that retention by bytes removed before a master had synced them.
    gaps: tuple[tuple[Milliseconds, Milliseconds], ...] = ()
    #: Files that the store has not read since it was opened; it reads them in the background.
    unchecked: int | None = None
    #: Part of ``bytes``, if the store counts its bytes.
    quarantine: QuarantineSize | None = None


class Store(Erasing, Protocol):
    """Stores records. Safe to use from several threads.

    Nothing is opened, locked or started before :meth:`open`, which happens in the process that
    serves (after a server's fork). All methods but ``open`` and ``close`` raise
    :class:`~portable_core.errors.StoreError` when the store cannot be used, after a bounded time.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes may append to the same store at the same time."""
        ...

    def open(self, algorithm: str) -> StoreInfo:
        """Open the store for writing; create it if it does not exist. Idempotent.

        Raises ``SettingsError`` if the store was created with another hash algorithm,
        ``StoreLocked`` if another process is its writer (retry), ``StoreError`` otherwise.
        """
        ...

    def info(self) -> StoreInfo:
        """Return the identity, with the current generation."""
        ...

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        """Store ``records``; they are durable on return. Idempotent: one record for each pair.

        The records may have any order and any time. ``deadline`` is the timeout in seconds; raises
        ``StoreError``, also for a timeout. After an error, some of the records may be stored.
        """
        ...

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        """Yield the pairs with ``start <= timestamp < end`` in order, without reading payloads.

        Memory is bounded for any window. The result is a snapshot: records appended after its first
        item are not part of it.
        """
        ...

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        """Yield the records of the same window, under the same promises as :meth:`pairs`."""
        ...

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        """Yield the records of these pairs, in their order; skip pairs without a record.

        Each record is read when it is consumed, so that few payloads are in memory at once.
        """
        ...

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        """Return the last ``limit`` pairs with ``timestamp < before``, newest first."""
        ...

    def first(self) -> Milliseconds | None:
        """Return the oldest record's timestamp, None for an empty store."""
        ...

    def last(self) -> Milliseconds | None:
        """Return the newest record's timestamp, None for an empty store."""
        ...

    def prune(self, before: Milliseconds) -> int:
        """Remove records older than ``before``; return roughly how many bytes or records.

        A store may keep some of these records: where it removes whole parts, or to bound the time
        of one call. It never removes younger records.
        """
        ...

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        """Remove the oldest parts until the store occupies at most ``limit`` bytes.

        Some parts may stay until the next call, as with :meth:`prune`. Return the gap: the window
        ``[start, end)`` of the removed records that do not lie before ``asked``; None without such
        records. A master has all records before ``asked``. The status shows the gap from then on.
        """
        ...

    def mark(self, name: str) -> int:
        """Return a durable number that never decreases; 0 until it is raised."""
        ...

    def marks(self, prefix: str) -> dict[str, int]:
        """Return the marks whose names begin with ``prefix``, by name; those at 0 are left out."""
        ...

    def raise_mark(self, name: str, value: int) -> int:
        """Raise the mark to at least ``value``, durably, and return its new value."""
        ...

    def set_mark(self, name: str, value: int) -> None:
        """Set the mark, durably, also to a smaller value; 0 removes it.

        Of two calls at the same time from two processes of a shared store, the larger value counts.
        """
        ...

    def losses(self) -> Sequence[Damage]:
        """Return the parts of the store that have lost records which were stored.

        A part whose records can be read again is no longer among them; one that an operator
        removed is.
        """
        ...

    def check(self) -> None:
        """Return if the store can store a record now; raise ``StoreError`` if not.

        ``StoreFull`` too proves that no record of a failed append can still appear.
        """
        ...

    def status(self) -> StoreStatus:
        """Return the status for people and metrics; it may be a few seconds old."""
        ...

    def close(self) -> None:
        """Release files, locks and connections. Idempotent; appended records stay."""
        ...
