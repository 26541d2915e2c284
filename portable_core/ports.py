"""The ports of a node: its store, the master's state, a client of a slave, a clock.

Each port is small, and every implementation under ``adapters/`` passes the same contract suite
(``tests/contract/``). An implementation translates its errors into those of
:mod:`portable_core.errors`; a port raises no other exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Protocol

import msgspec

from portable_core.epochs import MAX_LOSSES, Loss, NotedLoss, Stint
from portable_core.records import MAX_INTEGER, Integer, Pair, Record

#: Integer milliseconds since the Unix epoch, UTC.
Milliseconds = Integer

#: The longest span (``SPAN_S``). A lost record may have represented records up to a span before it:
#: a store that loses records sets its cursors back to this long before the first one.
MAX_SPAN_MS = 3_600_000

#: The form of a store's UUID.
UUID_PATTERN = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

#: The form of the id of a stint.
STINT_PATTERN = r"[0-9a-f]{32}"


class Clock(Protocol):
    """The clocks of a machine: the date, and one that counts elapsed time."""

    def now(self) -> Milliseconds:
        """Return the date. It may jump in both directions at any time."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never decreases. For durations and deadlines.

        They count while the machine is suspended, where the platform has such a clock.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class StoreEpoch(NamedTuple):
    """The UUID of a store, and its generation (see :class:`StoreInfo`)."""

    store: str
    generation: int


class HashRange(NamedTuple):
    """The hashes from ``start`` on and before ``end``."""

    start: int
    end: int

    def __contains__(self, hash_: object) -> bool:
        return isinstance(hash_, int) and self.start <= hash_ < self.end


ALL_HASHES = HashRange(0, MAX_INTEGER + 1)


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


class Store(Protocol):
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


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to sync. ``token`` grows with each lease; ``expires`` is its end unless renewed."""

    token: int
    holder: str
    expires: Milliseconds


class PartState(NamedTuple):
    """The progress within a window that is compared by parts, each a range of hashes.

    Every record of ``[start, end)`` with a hash before ``done`` is represented in the master.
    ``width``: how many hashes the next request may cover. ``pairs``: how many pairs it may have.
    The progress counts only while the cursor is at ``start``.
    """

    start: Milliseconds
    end: Milliseconds
    done: int
    width: int
    pairs: int


@dataclass(frozen=True, slots=True)
class SlaveState:
    """The master's state of one slave.

    ``cursor``: every record of the slave's store ``store`` in epoch ``generation`` before it is
    represented in the master. ``window``: how many milliseconds the next request may cover, None
    for no limit of that kind. ``report``: the last sync's report as JSON-ready values. ``part``:
    the progress within a window that is compared by parts; a store that loses records drops the
    parts of all slaves. ``stint``: a stint of the slave's store with a horizon that is not before
    the cursor; None for slaves before 0.2. ``losses``: what the slave has lost.
    """

    cursor: Milliseconds | None = None
    store: str = ""
    generation: int = 0
    window: Milliseconds | None = None
    report: Mapping[str, object] = field(default_factory=dict)
    part: PartState | None = None
    stint: Stint | None = None
    losses: tuple[NotedLoss, ...] = ()


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record in quarantine: the slave it came from, the time, the reason, the whole record."""

    id: str
    slave: str
    at: Milliseconds
    reason: str
    record: Record


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """An item of the quarantine without its payload.

    ``position`` sorts by time; a page begins before one. ``size`` is what the item occupies.
    """

    position: str
    id: str
    slave: str
    at: Milliseconds
    reason: str
    pair: Pair
    size: int


class MasterState(Protocol):
    """The state of a master besides its records: leases, slaves' states, the quarantine.

    The methods with a lease write only under the newest one. Once a newer lease exists, they raise
    :class:`~portable_core.errors.LeaseLost` and write nothing. The store itself rejects the write:
    a check before the write would leave a gap.
    """

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        """Acquire the lease if it is free or has expired; tokens only grow.

        ``now`` is the date of this node. A wrong date of an earlier holder does not keep the lease:
        a store with one writer ends the lease when it is opened, since no other process can hold
        it, and in a shared store the lease expires by the time of its server, whatever ``now`` is.
        Raises ``LeaseHeld`` otherwise.
        """
        ...

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease: ...

    def release_lease(self, lease: Lease) -> None:
        """Release the lease; do nothing if it was lost."""
        ...

    def slave_states(self) -> dict[str, SlaveState]: ...

    def save_slave(self, lease: Lease, name: str, state: SlaveState) -> None:
        """Save the state of a slave; it is durable on return."""
        ...

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        """:meth:`Store.append` under the lease."""
        ...

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        """Save items; they are durable on return. Idempotent by ``id``."""
        ...

    def delete_quarantined(self, lease: Lease, id_: str) -> bool:
        """Delete an item, durably; return whether it was there."""
        ...

    def quarantine(self) -> Iterator[Quarantined]:
        """Yield all items, oldest first, in bounded memory."""
        ...

    def list_quarantine(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        """Return the newest items, at most ``limit``, before the position ``before`` if given.

        No payload is read.
        """
        ...

    def find_quarantined(self, id_: str) -> Quarantined | None: ...

    def quarantine_size(self) -> QuarantineSize:
        """Return the size, without reading the items."""
        ...


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


class MasterStore(Store, MasterState, ArrivalOrder, ConsumerStates, Protocol):
    """A store that is all of these. Every shipped one is, so that one lease protects all."""


#: The name of a hash algorithm or a media type.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,64}\Z")]


class SlaveInfo(msgspec.Struct, frozen=True):
    """A slave's response to ``GET /sync``.

    ``first`` is the timestamp of its oldest record, None for an empty store; ``now`` the timestamp
    that it would assign at that moment. ``rules`` has, by source, the text of each identity rule
    that is not the default; None stands for versions before 0.2, which hash the payload alone.
    ``ranges``: whether the slave compares a range of hashes, if a request names one.

    ``clock``: what the slave's clock shows, which may be ahead of ``now`` or behind; None for older
    releases. ``stint`` has reported ``horizon``, or a later one; empty for versions before 0.2.
    ``continues``: whether the store is the one that has reported the stint of the request, or a
    later state of it; None if the request named none. ``ephemeral``: whether the store ends with
    its process. ``losses``: the parts of the store that have lost acknowledged webhooks.
    """

    store: Annotated[str, msgspec.Meta(pattern=rf"\A{UUID_PATTERN}\Z")]
    generation: Integer
    first: Milliseconds | None
    horizon: Milliseconds
    now: Milliseconds
    span: Milliseconds
    hash: _Name
    encodings: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=16)]
    rules: dict[str, str] | None = None
    ranges: bool = False
    clock: Milliseconds | None = None
    stint: Annotated[str, msgspec.Meta(pattern=rf"\A({STINT_PATTERN})?\Z")] = ""
    continues: bool | None = None
    ephemeral: bool = False
    losses: Annotated[tuple[Loss, ...], msgspec.Meta(max_length=MAX_LOSSES)] = ()


#: Called in the caller's thread about twice a second while the other side sends nothing. An
#: exception of it ends the wait and is raised in the caller.
KeepWaiting = Callable[[], object]


def wait_on() -> None:
    """Do nothing: the ``KeepWaiting`` of callers that just wait."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One ``POST /sync``: the window, and the master's pairs encoded as ``media_type``.

    ``keep_waiting`` is called while the response, or its next chunk, is awaited. ``epoch``
    is the epoch of the slave's store in which ``start`` was reached; a slave whose store is in
    another epoch rejects the request. ``compare_only``: the slave must not advance its retention.
    ``stint``: a stint of that store; a slave whose store does not continue it rejects the request.
    ``hashes``: only pairs with these hashes are sent and compared. ``master``: the UUID of the
    master's store; the slave keeps a retention mark for each master.
    """

    start: Milliseconds
    end: Milliseconds
    span: Milliseconds
    algorithm: str
    media_type: str
    body: Iterable[bytes]
    keep_waiting: KeepWaiting = wait_on
    epoch: StoreEpoch | None = None
    compare_only: bool = False
    hashes: HashRange = ALL_HASHES
    master: str = ""
    stint: Stint | None = None


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The head of a response with status 200, and its body as it arrives.

    ``chunks`` raises ``SlaveUnreachable`` when the connection breaks or times out; it ends where
    the response ended, complete or not.
    """

    store: str
    generation: int
    through: Milliseconds
    media_type: str
    chunks: Iterator[bytes]


class SlaveClient(Protocol):
    """The master's client of one slave.

    Errors: ``SlaveUnreachable``, ``SlaveRefused`` for any status but 200 (redirects are not
    followed), ``AnswerInvalid`` for a 200 that is not of this protocol.
    """

    @property
    def name(self) -> str: ...

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: Milliseconds | None = None,
    ) -> SlaveInfo:
        """``GET /sync``. With a ``stint``, the slave returns whether its store continues it.

        ``clock`` is what the master's clock shows; it may confirm the slave's.
        """
        ...

    def exchange(self, request: SyncRequest) -> AbstractContextManager[SyncAnswer]:
        """``POST /sync``: sends ``request.body`` while the response is read.

        Leaving the context stops both directions at once. An exception of ``request.body`` ends the
        exchange and is raised from ``chunks``.
        """
        ...
