"""The quarantine of a master for operators: list, read, release and delete its records.

Nothing leaves the quarantine by itself, unless ``QUARANTINE_S`` is set. A person decides about each
record:

- **release**: the payload is a genuine webhook. It is identified again, under the master's rules,
  and stored as recovered from its slave, unless it is represented. Its timestamp stays, unless it
  lies in the future; then it is the current time.
- **delete**: the record is dropped. If the slave still has it and a sync compares it again, it is
  set aside again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from msgspec import structs

from portable_core.errors import Conflict, MalformedPayload, NotFound
from portable_core.ingest.receiver import Receiver
from portable_core.ports import (
    MasterStore,
    Milliseconds,
    Quarantined,
    QuarantineEntry,
    QuarantineSize,
)
from portable_core.records import MAX_INTEGER, Integer, Pair, Record, Recovery, format_id
from portable_core.sync.merge import SyncContext


class EntryDocument(msgspec.Struct, frozen=True):
    """An item without its payload; ``size`` is what it occupies in the store."""

    id: str
    slave: str
    at: Milliseconds
    reason: str
    webhook: str
    timestamp: Milliseconds
    hash: Integer
    size: Integer


class ItemDocument(msgspec.Struct, frozen=True):
    """A whole item; ``raw`` is the payload in base64."""

    id: str
    slave: str
    at: Milliseconds
    reason: str
    webhook: str
    timestamp: Milliseconds
    hash: Integer
    meta: Mapping[str, Any]
    raw: str


class QuarantineDocument(msgspec.Struct, frozen=True):
    """A page of ``GET /quarantine``; ``next`` is the ``before`` of the next page, if there is one.

    ``records`` and ``bytes`` count the whole quarantine.
    """

    records: Integer
    bytes: Integer
    items: Sequence[EntryDocument]
    next: str | None = None


class ReleaseDocument(msgspec.Struct, frozen=True):
    """What became of a released record: stored as ``webhook``, or represented already."""

    webhook: str
    stored: bool


#: Holds the turn and the lease of a master for one change.
Hold = Callable[[], AbstractContextManager[SyncContext]]


class Quarantine:
    """The quarantine of one master. Safe to use from any thread."""

    def __init__(
        self,
        receiver: Receiver,
        store: MasterStore,
        hold: Hold,
        find_missing: Callable[[list[Pair]], set[Pair]],
    ) -> None:
        """``find_missing`` returns the pairs that are not represented in the master."""
        self._receiver = receiver
        self._store = store
        self._hold = hold
        self._find_missing = find_missing

    def size(self) -> QuarantineSize:
        self._receiver.open()
        return self._store.quarantine_size()

    def list_page(self, before: str | None, limit: int) -> list[QuarantineEntry]:
        """Return the newest items, without payloads, before a position if one is given."""
        self._receiver.open()
        return self._store.list_quarantine(before, limit)

    def describe(self, before: str | None, limit: int) -> QuarantineDocument:
        """Return a page as a document."""
        records, size = self.size()
        entries = self.list_page(before, limit)
        position = entries[-1].position if len(entries) == limit else None
        return QuarantineDocument(records, size, [_describe(e) for e in entries], position)

    def find(self, id_: str) -> Quarantined:
        """Return an item whole. Raises ``NotFound``."""
        self._receiver.open()
        item = self._store.find_quarantined(id_)
        if item is None:
            raise NotFound(f"quarantine: has no record {id_[:200]!r}")
        return item

    def delete(self, id_: str) -> None:
        """Delete an item. Raises ``NotFound``."""
        with self._hold() as context:
            if not self._store.delete_quarantined(context.lease, id_):
                raise NotFound(f"quarantine: has no record {id_[:200]!r}")

    def release(self, id_: str) -> ReleaseDocument:
        """Store the record of an item, unless it is represented, and delete the item.

        Raises ``NotFound``, ``Conflict`` for a payload that is not a webhook, and ``RecordRefused``
        if the store cannot hold it. After an error the item is still there.
        """
        item = self.find(id_)
        record = self._identify(item)
        with self._hold() as context:
            missing = bool(self._find_missing([record.pair]))
            if missing and not context.other_rules.find_represented([record]):
                recovery = Recovery(item.slave, self._receiver.clock.now())
                self._store.save_records(
                    context.lease, [structs.replace(record, recovery=recovery)]
                )
                context.recent_keys.add(record.meta.key)
            else:
                missing = False
            self._store.delete_quarantined(context.lease, id_)
        return ReleaseDocument(format_id(record.pair), stored=missing)

    def _identify(self, item: Quarantined) -> Record:
        """Return the record with the hash and the key of its webhook, and a possible timestamp."""
        record = item.record
        try:
            hash_, meta = self._receiver.identifier.identify(record.payload, record.meta)
        except MalformedPayload as error:
            raise Conflict(
                f"quarantine: the payload of {item.id[:200]!r} is not a webhook ({error}). "
                "Download it, or delete the record."
            ) from error
        latest = self._receiver.now() + self._receiver.settings.span_ms
        time = record.pair.timestamp
        timestamp = time if 0 <= time <= min(latest, MAX_INTEGER) else self._receiver.now()
        return structs.replace(record, pair=Pair(timestamp, hash_), meta=meta)


def _describe(entry: QuarantineEntry) -> EntryDocument:
    pair = entry.pair
    return EntryDocument(
        entry.id,
        entry.slave,
        entry.at,
        entry.reason,
        format_id(pair),
        pair.timestamp,
        pair.hash,
        entry.size,
    )
