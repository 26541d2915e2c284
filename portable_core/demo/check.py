"""Do the promises hold? Read back from the stores, not from what the nodes say of themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from portable_core.demo.traffic import Ledger
from portable_core.payload_hash.canonical import canonicalize, hash_payload
from portable_core.records import Record


@dataclass(frozen=True, slots=True)
class Verdict:
    """``missing``: acknowledged somewhere, not in the master with its content; ``needless``: copies
    in the master beyond one of each webhook; ``foreign``: records that nobody sent."""

    missing: int
    needless: int
    foreign: int

    @property
    def holds(self) -> bool:
        return not (self.missing or self.needless or self.foreign)


def find_held(ledger: Ledger, records: Iterable[Record]) -> dict[int, int]:
    """How often each of the ledger's webhooks, by its index, is among the records (-1: foreign)."""
    indexes = {canonicalize(payload): index for index, payload in enumerate(ledger.payloads)}
    held: dict[int, int] = defaultdict(int)
    for record in records:
        right = hash_payload(record.payload) == record.pair.hash
        held[indexes.get(canonicalize(record.payload), -1) if right else -1] += 1
    return held


def judge(ledger: Ledger, records: Iterable[Record]) -> Verdict:
    """Judge the master's records; every webhook of the ledger is sent to each node once."""
    held = find_held(ledger, records)
    foreign = held.pop(-1, 0)
    return Verdict(
        missing=len(ledger.kept_somewhere - held.keys()),
        needless=sum(count - 1 for count in held.values()),
        foreign=foreign,
    )
