"""Check that nothing is lost, by the records in the stores and not by what nodes report."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from portable_core.demo.traffic import Deliveries, DemoWebhook
from portable_core.errors import MalformedPayload
from portable_core.ingest.identifier import Identifier
from portable_core.records import Meta, Record
from portable_core.sources.presets import PRESETS

#: Identifies webhooks as the nodes of the demonstration do.
_IDENTIFIER = Identifier("crc32c", b"", {"pay": PRESETS["stripe"].row.rule})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The number of webhooks that break a promise.

    ``missing``: acknowledged by a node, but not in the master with their content; ``needless``:
    copies in the master beyond the first of a webhook; ``foreign``: records that were never sent.
    ``unlogged``: in a provider's delivery log, but not in the master.
    """

    missing: int
    needless: int
    foreign: int
    unlogged: int = 0

    @property
    def ok(self) -> bool:
        return not (self.missing or self.needless or self.foreign or self.unlogged)


def count_copies(deliveries: Deliveries, records: Iterable[Record]) -> dict[int, int]:
    """Return the number of records of each webhook, by its index; -1 counts foreign records."""
    sent = [*deliveries.webhooks, *deliveries.logged]
    indexes = {_find_key(webhook): index for index, webhook in enumerate(sent)}
    copies: dict[int, int] = defaultdict(int)
    for record in records:
        index = indexes.get(record.meta.key, -1)
        copies[index if _is_intact(record) else -1] += 1
    return copies


def _find_key(webhook: DemoWebhook) -> str:
    headers = {name.lower(): value for name, value in webhook.headers.items()}
    payload = json.dumps(webhook.body).encode()
    return _IDENTIFIER.identify(payload, Meta(webhook.source, headers)).meta.key


def _is_intact(record: Record) -> bool:
    try:
        _IDENTIFIER.check(record)
    except MalformedPayload:
        return False
    return True


def check(deliveries: Deliveries, records: Iterable[Record]) -> CheckResult:
    """Check the master's records. Every webhook was sent to each node once."""
    copies = count_copies(deliveries, records)
    foreign = copies.pop(-1, 0)
    first = len(deliveries.webhooks)
    logged = range(first, first + len(deliveries.logged))
    return CheckResult(
        missing=len(deliveries.acknowledged_somewhere - copies.keys()),
        needless=sum(count - 1 for count in copies.values()),
        foreign=foreign,
        unlogged=len(logged) - sum(index in copies for index in logged),
    )
