"""The port of a master's state: leases, slaves' states, the quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from portable_core.epochs import NotedLoss, Stint
from portable_core.ports.store import QuarantineSize
from portable_core.ports.values import Milliseconds
from portable_core.records import Pair, Record


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

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None) -> None:
        """Save the state of a slave, or forget it (None); the change is durable on return."""
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
