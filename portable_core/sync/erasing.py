"""Deleting a webhook for good, on the master and on its slaves.

The record's payload and metadata are erased; its pair stays and represents the webhook. A tombstone
has the pair and the key. By the key, a sync recognises further copies of the webhook, and an import
leaves it out. The master hands its tombstones over at the beginning of a slave's turn, and all of
them again once the slave's store is in another epoch: what was erased may have come back with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from portable_core.errors import NotFound, SlaveError
from portable_core.ingest.receiver import Receiver
from portable_core.ports import (
    KeepWaiting,
    MasterStore,
    Milliseconds,
    SlaveClient,
    SlaveInfo,
    Store,
    Tombstone,
)
from portable_core.records import Integer, Pair, Record, format_id
from portable_core.sync.progress import Progress
from portable_core.sync.quarantine import Hold

logger = logging.getLogger(__name__)

#: The most tombstones in one request.
MOST_AT_ONCE = 500

#: The prefix of the marks with the number of the last tombstone that a slave has.
_SENT = "tombstones-"

CANNOT_ERASE = (
    "webhooks that were deleted on the master stay on this slave, which cannot erase them. Update "
    "it, or delete them there by other means"
)


class TombstoneDocument(msgspec.Struct, frozen=True):
    """A tombstone in ``POST /tombstones``."""

    hash: Integer
    timestamp: Milliseconds
    key: str = ""


class ErasedDocument(msgspec.Struct, frozen=True):
    """The response of a slave: how many records it has erased."""

    erased: Integer


class DeletionDocument(msgspec.Struct, frozen=True):
    """What was deleted on a master: the record, items of the quarantine, dead letters."""

    webhook: str
    records: Integer
    quarantined: Integer = 0
    dead_letters: Integer = 0


class ErasedKeys:
    """The keys of the tombstones of a store, read once. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0
        self._keys: frozenset[str] = frozenset()

    def read(self) -> frozenset[str]:
        """Return the keys."""
        new = list(self._store.tombstones(self._number))
        if new:
            self._keys |= {tombstone.key for _, tombstone in new if tombstone.key}
            self._number = new[-1][0]
        return self._keys


class Erasing:
    """The deletions of one master. Safe to use from any thread."""

    def __init__(
        self,
        receiver: Receiver,
        store: MasterStore,
        hold: Hold,
        drop_dead_letters: Callable[[str, str], int],
    ) -> None:
        """``drop_dead_letters`` drops those with an id or a key, and returns their number."""
        self._receiver = receiver
        self._store = store
        self._hold = hold
        self._drop_dead_letters = drop_dead_letters

    def delete(self, pair: Pair, key: str | None = None) -> DeletionDocument:
        """Delete a webhook and what else the master has of it. Raises ``NotFound``.

        Idempotent: a webhook that was deleted before is deleted again. ``key``: that of a webhook
        which is in an archive alone; the tombstone keeps it from being imported.
        """
        with self._hold() as context:
            self._receiver.flush()
            record = next(iter(self._store.fetch([pair])), None)
            if record is None:
                tombstone = self._find_tombstone(pair, key)
            else:
                tombstone = Tombstone(pair, record.meta.key, self._receiver.clock.now())
            # What is elsewhere first: after an error, the record is still there to be found.
            quarantined = [
                item.id
                for item in self._store.quarantine()
                if _is_same(item.record, tombstone, record)
            ]
            for id_ in quarantined:
                self._store.delete_quarantined(context.lease, id_)
            letters = self._drop_dead_letters(format_id(pair), tombstone.key)
            records = self._store.erase([tombstone])
        logger.warning("the webhook %s was deleted by an operator", format_id(pair))
        return DeletionDocument(format_id(pair), records, len(quarantined), letters)

    def _find_tombstone(self, pair: Pair, key: str | None) -> Tombstone:
        for _, tombstone in self._store.tombstones():
            if tombstone.pair == pair:
                return tombstone
        if key is not None:
            return Tombstone(pair, key, self._receiver.clock.now())
        raise NotFound(f"webhook: the master has no webhook {format_id(pair)}")


def _is_same(other: Record, tombstone: Tombstone, record: Record | None) -> bool:
    return (
        other.pair == tombstone.pair
        or (tombstone.key != "" and other.meta.key == tombstone.key)
        or (record is not None and other.payload == record.payload)
    )


def erase_on_slave(receiver: Receiver, tombstones: Sequence[TombstoneDocument]) -> int:
    """Erase the records of a slave that these webhooks of the master represent.

    Returns how many there were. The tombstones are saved with the pairs of the slave's records.
    """
    receiver.open()
    receiver.flush()
    store, span, now = receiver.store, receiver.settings.span_ms, receiver.clock.now()
    found: list[Tombstone] = []
    for tombstone in tombstones:
        time = tombstone.timestamp
        near = store.pairs(max(time - span, 0), time + span + 1)
        pairs = [pair for pair in near if pair.hash == tombstone.hash]
        found += [
            Tombstone(record.pair, record.meta.key, now)
            for record in store.fetch(pairs)
            if not tombstone.key or record.meta.key in ("", tombstone.key)
        ]
    return store.erase(found) if found else 0


def hand_over_tombstones(
    store: MasterStore,
    client: SlaveClient,
    info: SlaveInfo,
    progress: Progress,
    keep_waiting: KeepWaiting,
    *,
    anew: bool,
) -> None:
    """Send a slave the tombstones that it has not got; ``anew``: all of them.

    A slave that cannot erase is a warning, and an error of this request, too: the sync continues.
    """
    mark = f"{_SENT}{client.name}"
    if next(store.tombstones(), None) is None:
        return
    sent = store.mark(mark)
    if anew and sent:
        store.set_mark(mark, 0)
        sent = 0
    numbered = store.tombstones(sent)
    while batch := list(islice(numbered, MOST_AT_ONCE)):
        if not info.erases:
            progress.warn(CANNOT_ERASE, "CannotErase")
            return
        try:
            client.erase([tombstone for _, tombstone in batch], keep_waiting)
        except SlaveError as error:
            progress.warn(error)
            return
        store.raise_mark(mark, batch[-1][0])
