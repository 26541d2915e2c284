"""What the two roles need from outside: a store, the master's state, a way to a slave, a clock.

Each port is small, and every implementation under ``adapters/`` passes the same contract suite
(``tests/contract/``). Errors of the thing behind a port are translated into the tree of
:mod:`portable_core.errors`; no other exception may come out of a port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Protocol

import msgspec

from portable_core.records import Integer, Pair, Record

#: Integer milliseconds since the Unix epoch, UTC.
Milliseconds = Integer

#: The longest span (``SPAN_S``). What a store has lost may have represented what lies up to a span
#: before it, so a store that loses records sets the cursors in it back so far before the first.
MAX_SPAN_MS = 3_600_000


#: The form of a store's UUID.
UUID_PATTERN = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Clock(Protocol):
    """The node's clocks: one that tells the date, and one that only moves forward."""

    def now(self) -> Milliseconds:
        """The date. It may jump either way at any time; whoever reads it must cope."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never decreasing: for durations and deadlines."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class StoreEpoch(NamedTuple):
    """A store, by the UUID that was made with it, and its generation (see :class:`StoreInfo`)."""

    store: str
    generation: int


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """Which store this is, and in which epoch.

    ``uuid`` is made with the store. ``generation`` grows durably whenever records may have come
    back before what was already told (a damaged file readable again, a store restored).
    """

    uuid: str
    generation: int
    algorithm: str


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a store that cannot be read, or lacks records that it held: its name, the times it
    would cover, the reason.

    ``start`` is None where the name tells no time.
    """

    name: str
    reason: str
    start: Milliseconds | None = None
    end: Milliseconds | None = None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What ``/status`` shows of a store. None where the store cannot tell cheaply."""

    records: int | None
    first: Milliseconds | None
    last: Milliseconds | None
    bytes: int | None = None
    files: int | None = None
    damaged: tuple[Damage, ...] = ()
    #: Windows of records that retention by bytes removed before a master had asked past them.
    gaps: tuple[tuple[Milliseconds, Milliseconds], ...] = ()


class Store(Protocol):
    """Keeps records. Safe to use from several threads.

    Nothing is opened, locked or started before :meth:`open`, which happens in the process that
    serves (after a server's fork). All methods but ``open`` and ``close`` raise
    :class:`~portable_core.errors.StoreError` when the store cannot be used, after a bounded time.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes may append to the same store at the same time."""
        ...

    def open(self, algorithm: str) -> StoreInfo:
        """Become a writer of the store, making it if need be. Idempotent.

        Raises ``SettingsError`` if the store was made with another hash algorithm, ``StoreLocked``
        if another process is its writer (try again), ``StoreError`` for anything else.
        """
        ...

    def info(self) -> StoreInfo:
        """Identity, and the generation as it is now."""
        ...

    def append(self, records: Sequence[Record], deadline: float | None = None) -> None:
        """Store ``records``, durably when it returns; idempotent: a pair twice is one record.

        The records may be in any order and of any time. ``deadline`` is how many seconds it may
        take at most; past it ``StoreError`` is raised. After any error a part of the records may
        or may not be there.
        """
        ...

    def pairs(self, start: Milliseconds, end: Milliseconds) -> Iterator[Pair]:
        """The pairs with ``start <= timestamp < end`` in order, without touching payloads.

        Bounded memory however large the window; consistent: what is appended after the call (from
        its first item on) is not in it.
        """
        ...

    def records(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        """The records of the same window, in the same order, under the same promise."""
        ...

    def fetch(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        """The records of these pairs, in their order; pairs that are not there are left out.

        They are read as they are taken, so that memory need not hold many large payloads at once.
        """
        ...

    def latest(self, before: Milliseconds, limit: int) -> list[Pair]:
        """The last ``limit`` pairs with ``timestamp < before``, newest first."""
        ...

    def first(self) -> Milliseconds | None:
        """The oldest record's timestamp, None for an empty store."""
        ...

    def last(self) -> Milliseconds | None:
        """The newest record's timestamp, None for an empty store."""
        ...

    def prune(self, before: Milliseconds) -> int:
        """Remove records older than ``before`` and return about how many bytes or records went.

        A store may keep some of them where removing whole parts is cheaper, never the reverse, and
        leave some for the next call where removing all would take long.
        """
        ...

    def prune_to_size(
        self, limit: int, asked: Milliseconds = 0
    ) -> tuple[Milliseconds, Milliseconds] | None:
        """Remove the oldest parts until the store occupies at most ``limit`` bytes.

        Some may be left for the next call, as with :meth:`prune`. Returns the gap, the window
        ``[start, end)`` of what went and does not lie before ``asked`` (a master has all that
        does), None if there is none. It is in the status from then on.
        """
        ...

    def mark(self, name: str) -> int:
        """A durable number that never decreases; 0 until it was raised."""
        ...

    def marks(self, prefix: str) -> dict[str, int]:
        """Return the marks whose names begin with ``prefix``, by name; those at 0 are left out."""
        ...

    def raise_mark(self, name: str, value: int) -> int:
        """Make the mark at least ``value``, durably when it returns, and return what it is now."""
        ...

    def check(self) -> None:
        """Return if the store could take a record now; raise ``StoreError`` if not.

        ``StoreFull`` too proves that nothing of an append that failed can still appear.
        """
        ...

    def status(self) -> StoreStatus:
        """For people and metrics; may be a few seconds old."""
        ...

    def close(self) -> None:
        """Let go of files, locks and connections. Idempotent; what was appended stays."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to sync: ``token`` grows with each, ``expires`` is when it ends unrenewed."""

    token: int
    holder: str
    expires: Milliseconds


@dataclass(frozen=True, slots=True)
class SlaveState:
    """What the master remembers of one slave.

    ``cursor``: every record of the slave's store ``store`` in epoch ``generation`` before it is
    represented in the master. ``window``: how many milliseconds the next request may cover, None
    for no limit of that kind. ``report``: the last sync's report as JSON-ready values.
    """

    cursor: Milliseconds | None = None
    store: str = ""
    generation: int = 0
    window: Milliseconds | None = None
    report: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record set aside whole: from which slave, when, why, and all that was received of it."""

    id: str
    slave: str
    at: Milliseconds
    reason: str
    record: Record


class MasterState(Protocol):
    """What a master keeps besides records: leases, slaves' states, the quarantine.

    The methods that take a lease write only under the newest one: they raise
    :class:`~portable_core.errors.LeaseLost`, writing nothing, once a newer lease was taken. The
    store refuses; a check before the write would not do.
    """

    def acquire_lease(self, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
        """Take the lease if nobody holds it or its holder let it expire; tokens only grow.

        Raises ``LeaseHeld`` otherwise.
        """
        ...

    def renew_lease(self, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease: ...

    def release_lease(self, lease: Lease) -> None:
        """Give it back; nothing happens if it was lost."""
        ...

    def slave_states(self) -> dict[str, SlaveState]: ...

    def save_slave(self, lease: Lease, name: str, state: SlaveState) -> None:
        """Durable when it returns."""
        ...

    def save_records(self, lease: Lease, records: Sequence[Record]) -> None:
        """:meth:`Store.append` under the lease."""
        ...

    def save_quarantine(self, lease: Lease, items: Sequence[Quarantined]) -> None:
        """Durable when it returns; idempotent by ``id``."""
        ...

    def quarantine(self) -> Iterator[Quarantined]:
        """All of it, oldest first, in bounded memory."""
        ...


class MasterStore(Store, MasterState, Protocol):
    """Every shipped store is both, so that records and the master's state share one fence."""


#: The name of a hash algorithm or a media type.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,64}\Z")]


class SlaveInfo(msgspec.Struct, frozen=True):
    """A slave's response to ``GET /sync``.

    ``first`` is the timestamp of its oldest record, None for an empty store; ``now`` the timestamp
    that it would assign at that moment.
    """

    store: Annotated[str, msgspec.Meta(pattern=rf"\A{UUID_PATTERN}\Z")]
    generation: Integer
    first: Milliseconds | None
    horizon: Milliseconds
    now: Milliseconds
    span: Milliseconds
    hash: _Name
    encodings: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=16)]


#: Called in the caller's thread about twice a second while nothing comes from the other side. What
#: it raises ends the waiting, and is raised there.
KeepWaiting = Callable[[], object]


def wait_on() -> None:
    """The ``KeepWaiting`` of callers who have nothing else to do."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One ``POST /sync``: the window, and the master's pairs encoded as ``media_type``.

    ``keep_waiting`` is called while the answer, or the next chunk of it, is waited for. ``epoch``
    is the epoch of the slave's store in which ``start`` was reached; a slave whose store is in
    another epoch rejects the request. ``compare_only``: the slave must not advance its retention.
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


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The beginning of an answer with status 200, and the rest as it arrives.

    ``chunks`` raises ``SlaveUnreachable`` when the connection breaks or is silent for too long; it
    just ends where the answer ended.
    """

    store: str
    generation: int
    through: Milliseconds
    media_type: str
    chunks: Iterator[bytes]


class SlaveClient(Protocol):
    """The master's way to one slave.

    Errors: ``SlaveUnreachable``, ``SlaveRefused`` for any status but 200 (redirects are not
    followed), ``AnswerInvalid`` for a 200 that is not of this protocol.
    """

    @property
    def name(self) -> str: ...

    def describe(self, keep_waiting: KeepWaiting = wait_on) -> SlaveInfo:
        """``GET /sync``."""
        ...

    def exchange(self, request: SyncRequest) -> AbstractContextManager[SyncAnswer]:
        """``POST /sync``: sends ``request.body`` while the answer is being read.

        Leaving the context stops both directions at once, whatever was still to come. An exception
        of ``request.body`` ends the exchange and is raised from ``chunks``.
        """
        ...
