"""Find webhooks in the master that are stored under another identity rule.

Two records of one webhook have different hashes if they were hashed under different rules: before
and after a rule was changed, or by a version that hashed the payload alone. The comparison of pairs
misses such a webhook; this finds it. Where the hash under another rule is in the store, the two
records are compared by their keys under the current rule, so two webhooks that only an older rule
takes for one both stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress

from portable_core.errors import MalformedPayload
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.rule_history import RuleHistory, remember_bodies
from portable_core.payload_hash.identity import DEFAULT_RULE
from portable_core.ports import Milliseconds, Store
from portable_core.records import Pair, Record

#: The most stored records that are compared with one received record.
_MOST_CANDIDATES = 64


class OtherRules:
    """Looks for webhooks under other rules than the records name. For one sync."""

    def __init__(self, store: Store, identifier: Identifier, span: Milliseconds) -> None:
        self._store = store
        self._identifier = identifier
        self._span = span
        self._loaded: RuleHistory | None = None

    def find_represented(self, records: Sequence[Record]) -> set[Pair]:
        """Return the pairs of the records whose webhook is in the store under another rule.

        The other records are going to be stored.
        """
        wanted: defaultdict[int, list[Record]] = defaultdict(list)
        for record in records:
            for hash_ in self._hash_otherwise(record):
                wanted[hash_].append(record)
        found = self._compare(wanted) if wanted else set()
        bodies = [r for r in records if not r.meta.key and r.pair not in found]
        if bodies:
            remember_bodies(self._store, bodies)
            self._loaded = None
        return found

    @property
    def _history(self) -> RuleHistory:
        if self._loaded is None:
            self._loaded = RuleHistory(self._store)
        return self._loaded

    def _hash_otherwise(self, record: Record) -> Iterator[int]:
        """Return the hashes that the webhook may be stored under, apart from the record's own."""
        meta, history = record.meta, self._history
        current = self._identifier.rule(meta.source)
        rules = {rule.text: rule for rule in (*history.rules(meta.source), current)}
        if rules != {"": DEFAULT_RULE} or not meta.key:
            rules[""] = DEFAULT_RULE
        if meta.key:
            rules.pop(meta.rule, None)
        hashes = set()
        for rule in rules.values():
            with suppress(MalformedPayload):  # a body of a kind that was not allowed under it
                hashes.add(self._identifier.identify(record.payload, meta, rule).hash)
        if meta.key and record.pair.timestamp - self._span < history.body_until:
            with suppress(MalformedPayload):
                hashes.add(self._identifier.identify_body(record.payload, meta).hash)
        hashes.discard(record.pair.hash)
        yield from hashes

    def _compare(self, wanted: dict[int, list[Record]]) -> set[Pair]:
        times = [record.pair.timestamp for records in wanted.values() for record in records]
        start, end = min(times) - self._span, max(times) + self._span + 1
        candidates: defaultdict[Pair, list[Pair]] = defaultdict(list)
        by_pair = {record.pair: record for records in wanted.values() for record in records}
        for pair in self._store.pairs(start, end):
            for record in wanted.get(pair.hash, ()):
                known = candidates[record.pair]
                near = abs(pair.timestamp - record.pair.timestamp) <= self._span
                if near and len(known) < _MOST_CANDIDATES:
                    known.append(pair)
        return {
            pair
            for pair, known in candidates.items()
            if known and self._is_among(by_pair[pair], known)
        }

    def _is_among(self, record: Record, pairs: Sequence[Pair]) -> bool:
        key = self._find_key(record)
        return key != "" and any(
            self._find_key(stored) == key for stored in self._store.fetch(pairs)
        )

    def _find_key(self, record: Record) -> str:
        """Return the key under the current rule of the record's source."""
        try:
            return self._identifier.identify(record.payload, record.meta).meta.key
        except MalformedPayload:
            return ""
