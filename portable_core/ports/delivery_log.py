"""The port to a provider's delivery log: what was tried to be delivered, and the webhooks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from portable_core.ports.slave_client import KeepWaiting
from portable_core.ports.values import Milliseconds


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a provider has sent, as its log has it. Header names are lower case."""

    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One delivery in a log.

    - ``id``: names the delivery in this log.
    - ``timestamp``: its time by the provider's clock.
    - ``webhook``: names the webhook in all of its deliveries; empty if that is unknown.
    - ``repeated``: the webhook was sent before, so the master may have it from long before.
    - ``delivery``: None if it must be read by itself.
    - ``outcome``: the provider's words for what became of the delivery, for people.
    """

    id: str
    timestamp: Milliseconds
    webhook: str = ""
    repeated: bool = False
    delivery: Delivery | None = None
    outcome: str = ""


class LogListing(NamedTuple):
    """The entries from a time on and before ``through``, in order; none of them is left out."""

    entries: Sequence[LogEntry]
    through: Milliseconds


class DeliveryLog(Protocol):
    """One log of a provider. For one thread at a time.

    Raises ``LogUnreachable``, ``LogRefused``, ``AnswerInvalid``, ``ClocksDiffer``, and what
    ``keep_waiting`` raises; that is called about twice a second and between two requests.
    """

    @property
    def requests(self) -> int:
        """Requests made since the start."""
        ...

    def list_entries(
        self, start: Milliseconds, end: Milliseconds, keep_waiting: KeepWaiting
    ) -> LogListing:
        """Return the entries of the window ``[start, end)``, or of its first part.

        They are the deliveries of webhooks without a successful attempt, or all deliveries, as
        configured.
        """
        ...

    def read(self, entry: LogEntry, keep_waiting: KeepWaiting) -> Delivery | None:
        """Return what was sent; None if the log no longer has it."""
        ...

    def redeliver(self, id_: str, keep_waiting: KeepWaiting) -> None:
        """Ask the provider to send a delivery again. Raises ``BadRequest`` if it cannot."""
        ...

    def close(self) -> None:
        """Close the connection. Idempotent; the next request opens another one."""
        ...
