"""The documents of ``GET /health`` and ``GET /status``: made by a node, read by programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from portable_core.documents import convert_document
from portable_core.epochs import NotedLoss
from portable_core.ingest.receiver import NodeStatus
from portable_core.ports import Damage, Milliseconds, SlaveState
from portable_core.records import Integer
from portable_core.sync.completeness import slave_complete_until
from portable_core.sync.conditions import Condition
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.master_marks import MasterMark
from portable_core.sync.protocol import format_stint
from portable_core.sync.report import StoredReport

_DAY_MS = 86_400_000


class HealthDocument(msgspec.Struct, frozen=True):
    """The health of a node that can store a webhook now; otherwise it responds with a problem."""

    role: str
    status: Literal["ok"] = "ok"
    warnings: Sequence[str] = ()


class QuarantineSizeDocument(msgspec.Struct, frozen=True):
    """The size of the quarantine, which is part of the store's ``bytes``."""

    records: Integer
    bytes: Integer


class StoreDocument(msgspec.Struct, frozen=True):
    """A node's store. A member is null if the store cannot compute it cheaply."""

    uuid: str
    generation: Integer
    hash: str
    records: Integer | None = None
    oldest: Milliseconds | None = None
    newest: Milliseconds | None = None
    bytes: Integer | None = None
    files: Integer | None = None
    quarantine: QuarantineSizeDocument | None = None
    damaged: Sequence[Damage] = ()
    gaps: Sequence[tuple[Milliseconds, Milliseconds]] = ()
    unchecked: Integer | None = None


class RetentionDocument(msgspec.Struct, frozen=True):
    """What a master removes.

    - ``floor``: the time before which no sync fetches records; 0 if nothing was removed.
    - ``limit_bytes``: ``RETENTION_BYTES``.
    - ``record_bytes``: what a record occupies on average.
    - ``full_in_days``: when the store reaches the limit at its average growth.

    The last three are null if they are unknown.
    """

    floor: Milliseconds = 0
    limit_bytes: Integer | None = None
    record_bytes: Integer | None = None
    full_in_days: float | None = None


class BufferDocument(msgspec.Struct, frozen=True):
    """The webhooks that are not yet committed."""

    records: Integer
    bytes: Integer = 0
    oldest: Milliseconds | None = None
    collapsed: Integer = 0


class ClockDocument(msgspec.Struct, frozen=True):
    """The clock of a node; see :class:`portable_core.ingest.clock_status.ClockStatus`."""

    ahead_ms: Integer = 0
    since: Milliseconds | None = None
    store_ahead_ms: Integer = 0


class SlaveDocument(msgspec.Struct, frozen=True):
    """A slave as the master knows it.

    - ``url``: its address in ``SLAVES``; null if the name is no longer in ``SLAVES``.
    - ``log``: for a provider's delivery log its kind and target, and null for a slave.
    - ``complete_until``: the time before which all its webhooks are in the master, and no loss is
      unacknowledged; 0 before the first sync. ``in_until`` is its name in older releases.
    - ``report``: the report of the last sync; empty before the first.
    - ``stint``: the stint of its store, and the horizon, that the last sync saw; may be empty.
    - ``losses``: what its store has lost.
    """

    url: str | None = None
    cursor: Milliseconds | None = None
    complete_until: Milliseconds | None = None
    in_until: Milliseconds | None = None
    store: str = ""
    generation: Integer = 0
    report: Mapping[str, object] = {}
    stint: str = ""
    losses: Sequence[NotedLoss] = ()
    log: str | None = None

    def __post_init__(self) -> None:
        if self.complete_until is None and self.in_until is None:
            raise ValueError("complete_until: missing")

    @property
    def completed(self) -> Milliseconds:
        """``complete_until``, by either name."""
        return self.in_until or 0 if self.complete_until is None else self.complete_until

    def read_report(self) -> StoredReport | None:
        """Return the report; None before the first sync. Raises ``ValueError``."""
        if not self.report:
            return None
        return convert_document({"slave": "", **self.report}, StoredReport, "report")


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a node.

    ``slaves``, ``consumers`` and ``retention`` are absent on a slave, ``masters`` on a master, and
    ``conditions`` in older releases.
    """

    role: str = ""
    store: StoreDocument
    buffer: BufferDocument
    horizon: Milliseconds
    now: Milliseconds
    clock: ClockDocument = ClockDocument()
    slaves: Mapping[str, SlaveDocument] | msgspec.UnsetType = msgspec.UNSET
    masters: Sequence[MasterMark] | msgspec.UnsetType = msgspec.UNSET
    consumers: Sequence[ConsumerDocument] | msgspec.UnsetType = msgspec.UNSET
    conditions: Sequence[Condition] | msgspec.UnsetType = msgspec.UNSET
    retention: RetentionDocument | msgspec.UnsetType = msgspec.UNSET

    @property
    def floor(self) -> Milliseconds:
        """The floor of a master; 0 in older releases."""
        return 0 if self.retention is msgspec.UNSET else self.retention.floor


class MasterStatusDocument(StatusDocument, frozen=True, kw_only=True):
    """The status of a master."""

    slaves: Mapping[str, SlaveDocument]


class SlaveStatusDocument(StatusDocument, frozen=True, kw_only=True):
    """The status of a slave."""

    masters: Sequence[MasterMark]


def describe_status(
    role: str,
    status: NodeStatus,
    slaves: Mapping[str, SlaveDocument] | None = None,
    masters: Sequence[MasterMark] | None = None,
    consumers: Sequence[ConsumerDocument] | None = None,
    conditions: Sequence[Condition] = (),
    retention: RetentionDocument | None = None,
) -> StatusDocument:
    """Return the document of a node's status.

    ``slaves``, ``consumers`` and ``retention`` are those of a master, ``masters`` those of a slave.
    """
    store, buffer = status.store, status.buffer
    return StatusDocument(
        role=role,
        store=StoreDocument(
            status.info.uuid,
            status.info.generation,
            status.info.algorithm,
            store.records,
            store.first,
            store.last,
            store.bytes,
            store.files,
            store.quarantine and QuarantineSizeDocument(*store.quarantine),
            store.damaged,
            store.gaps,
            store.unchecked,
        ),
        buffer=BufferDocument(buffer.records, buffer.bytes, buffer.oldest, buffer.collapsed),
        horizon=status.horizon,
        now=status.now,
        clock=ClockDocument(status.clock.ahead_ms, status.clock.since, status.clock.store_ahead_ms),
        slaves=msgspec.UNSET if slaves is None else slaves,
        masters=msgspec.UNSET if masters is None else masters,
        consumers=msgspec.UNSET if consumers is None else consumers,
        conditions=conditions,
        retention=msgspec.UNSET if retention is None else retention,
    )


def describe_retention(
    status: NodeStatus, floor: Milliseconds, limit: int | None
) -> RetentionDocument:
    """Return the document of a master's retention; ``limit`` is ``RETENTION_BYTES``."""
    store = status.store
    if not store.records or store.bytes is None or store.first is None:
        return RetentionDocument(floor, limit)
    days = None
    growth = store.bytes / max(status.now - store.first, 1)
    if limit is not None and growth:
        days = round(max(limit - store.bytes, 0) / growth / _DAY_MS, 1)
    return RetentionDocument(floor, limit, store.bytes // store.records, days)


def describe_slaves(
    states: Mapping[str, SlaveState], urls: Mapping[str, str], logs: Mapping[str, str] = {}
) -> dict[str, SlaveDocument]:
    """Return the documents of a master's slaves, and of its delivery logs.

    ``urls`` are the addresses in ``SLAVES``, ``logs`` the logs in ``PROVIDER_LOGS``.
    """
    documents = {}
    for name, state in states.items():
        complete = slave_complete_until(state)
        documents[name] = SlaveDocument(
            urls.get(name),
            state.cursor,
            complete,
            complete,  # deprecated: in_until
            state.store,
            state.generation,
            state.report,
            "" if state.stint is None else format_stint(state.stint),
            state.losses,
            logs.get(name),
        )
    return documents
