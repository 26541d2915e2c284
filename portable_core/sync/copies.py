"""Notice sources whose webhooks differ from node to node, and need an identity rule.

A provider may put an attempt counter or the id of the endpoint into the body. Then a slave's copy
of a webhook never matches the master's, and each sync recovers all of them. Two signs of that are
reported, and nothing is changed because of them:

- **repeats**: recovered records whose key was in the master already (a provider's later retry);
- **similar** members: a few members of the body in which recovered records differ from records that
  the master had, where nothing else differs.

The second is found on samples. The members of a sample are those in which the record differs least
from a record of the same source and event at about the same time. They are reported only if at
least :data:`LEAST_SAMPLES` samples agree, and if without these members the samples still differ
from each other: otherwise the members identify the webhook, and the two are different webhooks.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence

from portable_core.payload_hash.canonical import canonicalize_parts
from portable_core.payload_hash.differences import find_differences
from portable_core.payload_hash.identity import EVENT_HEADERS
from portable_core.payload_hash.pointers import parse_pointer
from portable_core.ports import Milliseconds, Store
from portable_core.records import Pair, Record

#: Samples of one source in one sync of one slave; how many have to agree.
MOST_SAMPLES = 12
LEAST_SAMPLES = 3

#: The most members that may differ, and how far apart the two records' timestamps may be.
MOST_MEMBERS = 4
NEAR_MS: Milliseconds = 5_000

_MOST_NEAR = 64


class CopyFinder:
    """Samples the records that one sync recovers from one slave."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sampled: Counter[str] = Counter()
        self._samples: defaultdict[tuple[str, tuple[str, ...]], list[bytes]] = defaultdict(list)

    def examine(self, records: Iterable[Record]) -> None:
        """Sample some of the records, which are stored."""
        for record in records:
            source = record.meta.source
            if self._sampled[source] < MOST_SAMPLES:
                self._sampled[source] += 1
                members = self._find_members(record)
                if members:
                    self._samples[source, members].append(record.payload)

    def find_members(self) -> dict[str, list[str]]:
        """Return, by source, the JSON Pointers of the members in which copies differ."""
        found = {}
        for (source, members), payloads in self._samples.items():
            if len(payloads) >= LEAST_SAMPLES and _identify_without(payloads, members):
                found[source] = list(members)
        return found

    def _find_members(self, record: Record) -> tuple[str, ...]:
        found = (members for _, members in find_similar(self._store, record))
        return min(found, key=len, default=())


def find_similar(store: Store, record: Record) -> Iterator[tuple[Record, tuple[str, ...]]]:
    """Yield stored records that may be copies of ``record``, and the members that differ.

    They are of the same source and event, came to other nodes at about the same time, and differ in
    at least one and at most :data:`MOST_MEMBERS` members of the body.
    """
    near = _find_nearest(store, record.pair.timestamp)
    others = [pair for pair in near if pair != record.pair]
    for other in store.fetch(others):
        if _could_be_a_copy(record, other):
            members = find_differences(record.payload, other.payload, MOST_MEMBERS)
            if members:
                yield other, members


def _find_nearest(store: Store, time: Milliseconds) -> list[Pair]:
    """Return the pairs next to ``time`` on both sides, by one scan.

    ``Store.latest`` has no lower bound: on Firestore it reads pages far before ``time``.
    """
    before: deque[Pair] = deque(maxlen=_MOST_NEAR // 2)
    after: list[Pair] = []
    for pair in store.pairs(time - NEAR_MS, time + NEAR_MS + 1):
        if pair.timestamp <= time:
            before.append(pair)
        elif len(after) < _MOST_NEAR // 2:
            after.append(pair)
        else:
            break
    return [*before, *after]


def _could_be_a_copy(record: Record, other: Record) -> bool:
    one, another = record.meta, other.meta
    slaves = [None if r.recovery is None else r.recovery.slave for r in (record, other)]
    return (
        one.source == another.source
        and slaves[0] != slaves[1]
        and all(one.headers.get(name) == another.headers.get(name) for name in EVENT_HEADERS)
    )


def _identify_without(payloads: Sequence[bytes], members: Sequence[str]) -> bool:
    """Return whether the payloads differ from each other without these members."""
    pointers = [parse_pointer(text) for text in members]
    return len({canonicalize_parts(p, (), pointers)[0] for p in payloads}) == len(payloads)
