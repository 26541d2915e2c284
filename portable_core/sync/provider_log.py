"""A provider's delivery log as one more slave: read-only, behind the port ``SlaveClient``.

The sync, its windows, its cursor and the storing of records are those of slaves. This client makes
records of the entries of a log: the source and its identity rule give their hashes and keys, the
log gives their timestamps. It returns those that the master has neither within a span nor, by key,
later: see :mod:`.provider_log_lookup`.

A response holds few webhooks at a time. It covers the window up to the first entry that it leaves
out, and the sync continues there.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple, Self

from msgspec import structs

from portable_core.epochs import Stint
from portable_core.errors import MalformedPayload, SlaveError, WebhookSyncError
from portable_core.ingest.admission import Admission
from portable_core.ingest.identifier import Identifier
from portable_core.ports import (
    Delivery,
    DeliveryLog,
    KeepWaiting,
    LogEntry,
    Milliseconds,
    SlaveInfo,
    Store,
    SyncAnswer,
    SyncRequest,
    Tombstone,
    wait_on,
)
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.settings import Settings
from portable_core.sources.delivery_logs import LogSettings
from portable_core.sync.floor import read_floor
from portable_core.sync.log_gap import LogInfo
from portable_core.sync.merge import LimitReached
from portable_core.sync.provider_log_lookup import (
    drop_repeats,
    find_by_identifier,
    find_by_key,
)
from portable_core.sync.reconcile import find_missing
from portable_core.wire.negotiation import ENCODINGS, read_batches

logger = logging.getLogger(__name__)

#: One response looks at so many entries, needs so many requests for single ones, and has so many
#: bytes, at most. Entries of one millisecond are never divided.
MOST_ENTRIES = 1000
MOST_READ = 64
MOST_BYTES = 16 * 2**20

#: The namespace of the UUIDs that stand for logs.
_NAMESPACE = uuid.UUID("5d9e5c43-6a0f-4f0c-9a57-3f7d3c1d8e11")


class LogMaster(NamedTuple):
    """What a client of a log must know of the master.

    ``now`` returns the timestamp that the master would assign.
    """

    settings: Settings
    store: Store
    algorithm: str
    identifier: Identifier
    now: Callable[[], Milliseconds]


class _Found(NamedTuple):
    """A record of an entry. ``earliest``: the master may have the webhook from this time on."""

    record: Record
    earliest: Milliseconds


class ProviderLogClient:
    """A master's client for one delivery log; the port ``SlaveClient``. For one sync at a time."""

    def __init__(self, configured: LogSettings, log: DeliveryLog, master: LogMaster) -> None:
        self.log = log
        self.configured = configured
        self._master = master
        self._admission = Admission(master.settings)
        self._store = str(uuid.uuid5(_NAMESPACE, configured.place))

    @property
    def name(self) -> str:
        return self.configured.name

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: Milliseconds | None = None,
    ) -> SlaveInfo:
        """Return how the log looks to a sync, without a request to the provider."""
        master, now = self._master, self._master.now()
        reached = max(0, now - self.configured.reach_ms)
        rules = master.identifier.rules
        return LogInfo(
            store=self._store,
            generation=0,
            first=max(reached, read_floor(master.store)),
            horizon=max(0, now - self.configured.delay_ms),
            now=now,
            span=master.settings.span_ms,
            hash=master.algorithm,
            encodings=tuple(ENCODINGS),
            rules={name: rule.text for name, rule in rules.items()},
            erases=True,
            reached=reached,
        )

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        """Do nothing: the log is the provider's; the key of a tombstone keeps its record out."""

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        """Return the records of the window's first part that the master lacks."""
        wait = request.keep_waiting
        listing = self.log.list_entries(request.start, request.end, wait)
        found, through = self._read_entries(listing.entries, listing.through, wait)
        records = self._choose(found, request) if found else []
        encoding = ENCODINGS[request.media_type]
        # In one chunk: what was read is stored even if the turn ends now.
        chunk = b"".join(encoding.encode_records(records))
        yield SyncAnswer(self._store, 0, through, request.media_type, iter((chunk,)))

    def close(self) -> None:
        self.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- reading -------------------------------------------------------------------------------

    def _read_entries(
        self, entries: Sequence[LogEntry], through: Milliseconds, wait: KeepWaiting
    ) -> tuple[list[_Found], Milliseconds]:
        """Read the first entries. Return their records, and the time before which all are read.

        An error or the end of the turn after some entries ends the reading; the next request
        raises it.
        """
        if len(entries) > MOST_ENTRIES:
            through = entries[MOST_ENTRIES].timestamp
            first = [entry for entry in entries if entry.timestamp < through]
            if first:
                entries = first
            else:  # as many in one millisecond
                through += 1
                entries = [entry for entry in entries if entry.timestamp < through]
        known = self._find_known(entries)
        found: list[_Found] = []
        size = reads = 0
        for timestamp, group in groupby(entries, key=lambda entry: entry.timestamp):
            if reads >= MOST_READ or size >= MOST_BYTES:
                return found, timestamp
            missing = [entry for entry in group if entry.webhook not in known]
            reads += sum(entry.delivery is None for entry in missing)
            try:
                more = list(self._read_group(missing, wait))
            except (SlaveError, LimitReached):
                if timestamp == entries[0].timestamp:
                    raise
                return found, timestamp
            found += more
            size += sum(one.record.size for one in more)
        return found, through

    def _find_known(self, entries: Sequence[LogEntry]) -> set[str]:
        """Return the webhooks whose name the master has near the time of their entries."""
        times = {entry.webhook: entry.timestamp for entry in entries if entry.webhook}
        settings = self._master.settings
        if not times:
            return set()
        return find_by_identifier(
            self._master.store,
            self.configured.source,
            self.configured.kind.identifier,
            times,
            settings.span_ms,
        )

    def _read_group(self, entries: Iterable[LogEntry], wait: KeepWaiting) -> Iterator[_Found]:
        for entry in entries:
            delivery = entry.delivery or self.log.read(entry, wait)
            record = None if delivery is None else self._make_record(entry, delivery)
            if record is not None:
                span, reach = self._master.settings.span_ms, self.configured.reach_ms
                back = reach if entry.repeated else span
                yield _Found(record, max(0, entry.timestamp - back))

    def _make_record(self, entry: LogEntry, delivery: Delivery) -> Record | None:
        """Return the record of a delivery; None if no node would accept it."""
        most = self._master.settings.max_body_bytes
        try:
            if len(delivery.payload) > most:
                raise MalformedPayload(f"the body is larger than {most} bytes")
            headers = delivery.headers.items()
            meta = self._admission.read_meta(self.configured.source, headers, "")
            hash_, meta = self._master.identifier.identify(delivery.payload, meta)
        except WebhookSyncError as error:
            logger.warning("log %s: delivery %s is left out: %s", self.name, entry.id, error)
            return None
        pair = Pair(entry.timestamp, hash_)
        return Record(pair, delivery.payload, structs.replace(meta, via=self.configured.kind.name))

    # -- comparing -----------------------------------------------------------------------------

    def _choose(self, found: Sequence[_Found], request: SyncRequest) -> list[Record]:
        """Return the records that are not represented in the master, in order."""
        by_pair = {one.record.pair: one for one in reversed(found)}
        pairs = sorted(by_pair)
        near = self._read_near(request, by_pair, pairs[-1].timestamp + request.span)
        missing = [pair for run in find_missing(pairs, near, request.span) for pair in run]
        known = find_by_key(
            self._master.store,
            {pair: by_pair[pair].earliest for pair in missing},
            {pair: by_pair[pair].record.meta.key for pair in missing},
        )
        return list(drop_repeats(by_pair[pair].record for pair in missing if pair not in known))

    def _read_near(
        self, request: SyncRequest, wanted: Iterable[Pair], last: Milliseconds
    ) -> Iterator[list[Pair]]:
        """Yield the master's pairs with one of these hashes, no further than needed."""
        hashes = {pair.hash for pair in wanted}
        reader = ENCODINGS[request.media_type].read_pairs()
        for batch in read_batches(reader, request.body):
            near = [pair for pair in batch if pair.hash in hashes]
            if near:
                yield near
            if batch[-1].timestamp > min(last, MAX_INTEGER):
                return
