"""What the senders know, and the judgement over what lies in the stores.

The rules are those of the two promises and nothing else:

- **missing**: a node responded 200 and a pair, and the master has no record with that hash at
  most one span away from that timestamp.
- **needless**: the master fetched a record although another one with its hash, at most one span
  away, was there: its own, or one fetched earlier. (Its own cannot come later: a sync ends one span
  before the master's horizon, and nothing is added before that.) Copies that the master received
  itself, because a sender retried, are not needless; but there may not be more of them than
  attempts.
- **foreign**, **altered**: records in the master that no sender sent, in value or in their bytes,
  source and delivery header, or that lie there under the hash of another value.
- **mistold**: a node responded with a hash that is not that of the webhook.

What a sender did not get an answer to may be stored all the same; such records are judged like all
others, and nothing has to be there because of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from portable_core.ingest.identifier import Identifier
from portable_core.payload_hash.canonical import canonicalize
from portable_core.records import Meta, Pair, Record

#: The header that senders name each webhook in; nodes keep it in a record's meta by default.
DELIVERY_HEADER = "X-GitHub-Delivery"


def digest_value(payload: bytes) -> bytes:
    """The same for equal JSON values, whatever their spelling; 128 bits, unlike a pair's hash."""
    return blake2b(canonicalize(payload), digest_size=16).digest()


def digest_delivery(source: str, name: str, body: bytes) -> bytes:
    """For what has to come out as it went in: the source, the delivery header and the bytes."""
    return blake2b(f"{source}\0{name}\0".encode() + body, digest_size=16).digest()


def _digest_record(record: Record) -> bytes:
    meta = record.meta
    name = meta.headers.get(DELIVERY_HEADER.lower(), "")
    return digest_delivery(meta.source, name, record.payload)


class Acknowledged(NamedTuple):
    """A node responded 200; ``at`` is when, in seconds of the harness's own clock."""

    node: str
    pair: Pair
    value: bytes
    at: float


class Held(NamedTuple):
    """One record of the master. ``fetched`` is when it was recovered (ms), None for its own."""

    pair: Pair
    fetched: int | None
    slave: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Excuse:
    """Pairs that accidents destroyed: no store holds them any more, nor does the master represent
    them, since ``node`` was damaged.

    No promise covers a disk that held the only copy. Another node's copy of the same webhook, with
    a stamp of its own, is another pair: it may be represented by a third one that lies too far from
    this one. So the webhook itself is asked for: it is excused only if it is in the master all the
    same, or in no store at all.
    """

    node: str
    pairs: frozenset[Pair]


class PairIndex:
    """Pairs of some stores, to ask which others they represent."""

    def __init__(self, span_ms: int, stores: Iterable[Iterable[Pair]]) -> None:
        self._span = span_ms
        self._times: dict[int, list[int]] = defaultdict(list)
        for pairs in stores:
            for pair in pairs:
                self._times[pair.hash].append(pair.timestamp)

    def represents(self, pair: Pair) -> bool:
        times = self._times.get(pair.hash, ())
        return any(abs(time - pair.timestamp) <= self._span for time in times)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``hidden``: represented, by the rule, by another webhook with the same 32-bit hash."""

    webhooks: int
    acknowledged: int
    stored: int
    recovered: int
    missing: tuple[Acknowledged, ...] = ()
    needless: tuple[Held, ...] = ()
    foreign: int = 0
    altered: int = 0
    mistold: int = 0
    excused: int = 0
    hidden: int = 0
    repeated: int = 0

    @property
    def holds(self) -> bool:
        faults = self.foreign + self.altered + self.mistold
        return not (self.missing or self.needless or faults)

    def to_json(self) -> dict[str, object]:
        return {
            "webhooks": self.webhooks,
            "acknowledged": self.acknowledged,
            "stored in the master": self.stored,
            "recovered": self.recovered,
            "lost": len(self.missing),
            "needless": len(self.needless),
            "foreign": self.foreign,
            "altered": self.altered,
            "wrong hash in a response": self.mistold,
            "excused": self.excused,
            "hidden by a collision": self.hidden,
            "received again by the master": self.repeated,
            "holds": self.holds,
        }


@dataclass(slots=True)
class Ledger:
    """Records every attempt and every response; judges at the end.

    ``algorithm`` and ``key``: the nodes' ``HASH`` and ``HASH_KEY``.
    """

    span_ms: int
    algorithm: str = "crc32c"
    key: bytes = b""
    values: dict[bytes, int] = field(default_factory=dict)
    hashes: dict[bytes, int] = field(default_factory=dict)
    bodies: set[bytes] = field(default_factory=set)
    tries: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, body: bytes) -> bytes:
        """A webhook is going to be sent, in this or any other spelling. Returns its value."""
        value = digest_value(body)
        self.values[value] = number
        return value

    def send(self, node: str, value: bytes, source: str, body: bytes, name: str = "") -> None:
        """A try begins: from now on the node may have it, whatever it answers.

        ``name``: what is in its :data:`DELIVERY_HEADER`. A value is always sent to one source, and
        without event headers.
        """
        self.tries[node, value] += 1
        identifier = Identifier(self.algorithm, self.key, {})
        self.hashes[value] = identifier.identify(body, Meta(source)).hash
        self.bodies.add(digest_delivery(source, name, body))

    def acknowledge(self, node: str, value: bytes, pair: Pair, at: float) -> None:
        self.acknowledged.append(Acknowledged(node, pair, value, at))

    def refuse(self, node: str, why: str) -> None:
        """It was not acknowledged: ``why`` is a status or an error's name."""
        self.refused[f"{node}: {why}"] += 1

    def judge(
        self,
        records: Iterable[Record],
        master: str = "master",
        excuses: Sequence[Excuse] = (),
        elsewhere: Container[bytes] = (),
        needless: Iterable[Held] = (),
    ) -> Verdict:
        """Judge the master's records.

        ``elsewhere``: the values in all other stores. ``needless``: what :func:`find_needless`
        found in the master earlier, whether it is still there or not.
        """
        return _Judge(self, records, master).judge(excuses, elsewhere, needless)


def find_needless(records: Iterable[Record], span_ms: int) -> list[Held]:
    """The needless ones among a master's records: before damage takes the proof away."""
    return _Judge(Ledger(span_ms), records, "").find_needless()


class _Judge:
    def __init__(self, ledger: Ledger, records: Iterable[Record], master: str) -> None:
        self._ledger = ledger
        self._span = ledger.span_ms
        self._master = master
        self._by_hash: dict[int, list[Held]] = defaultdict(list)
        self._foreign = self._altered = self._stored = 0
        for record in records:
            self._take(record)
        for held in self._by_hash.values():
            held.sort(key=lambda each: each.pair)

    def _take(self, record: Record) -> None:
        self._stored += 1
        value = digest_value(record.payload)
        if value not in self._ledger.values:
            self._foreign += 1
        elif (
            _digest_record(record) not in self._ledger.bodies
            or record.pair.hash != self._ledger.hashes[value]
        ):
            self._altered += 1
        recovery = record.recovery
        self._by_hash[record.pair.hash].append(
            Held(
                record.pair,
                None if recovery is None else recovery.at,
                "" if recovery is None else recovery.slave,
                value,
            )
        )

    def judge(
        self, excuses: Sequence[Excuse], elsewhere: Container[bytes], needless: Iterable[Held]
    ) -> Verdict:
        missing: list[Acknowledged] = []
        excused = hidden = 0
        destroyed = frozenset().union(*(excuse.pairs for excuse in excuses))
        values = {held.value for group in self._by_hash.values() for held in group}
        for webhook in self._ledger.acknowledged:
            near = self._find_near(webhook.pair)
            if not near:
                lost = webhook.value not in values and webhook.value in elsewhere
                if webhook.pair in destroyed and not lost:
                    excused += 1
                else:
                    missing.append(webhook)
            elif all(held.value != webhook.value for held in near):
                hidden += 1
        everything = [held for group in self._by_hash.values() for held in group]
        repeated, unsent = self._count_own(everything)
        told, hashes = self._ledger.acknowledged, self._ledger.hashes
        return Verdict(
            webhooks=len(self._ledger.values),
            acknowledged=len({webhook.value for webhook in told}),
            stored=self._stored,
            recovered=sum(held.fetched is not None for held in everything),
            missing=tuple(missing),
            needless=(*dict.fromkeys((*needless, *self.find_needless())), *unsent),
            foreign=self._foreign,
            altered=self._altered,
            mistold=sum(webhook.pair.hash != hashes[webhook.value] for webhook in told),
            excused=excused,
            hidden=hidden,
            repeated=repeated,
        )

    def _find_near(self, pair: Pair) -> list[Held]:
        held = self._by_hash.get(pair.hash, [])
        low = bisect_left(held, pair.timestamp - self._span, key=lambda h: h.pair.timestamp)
        high = bisect_right(held, pair.timestamp + self._span, key=lambda h: h.pair.timestamp)
        return held[low:high]

    def find_needless(self) -> list[Held]:
        return [
            held for group in self._by_hash.values() for held in group if self._is_needless(held)
        ]

    def _is_needless(self, held: Held) -> bool:
        if held.fetched is None:
            return False
        own = (held.fetched, held.pair)
        return any(
            other.fetched is None or (other.fetched, other.pair) < own
            for other in self._find_near(held.pair)
            if other.pair != held.pair
        )

    def _count_own(self, everything: Iterable[Held]) -> tuple[int, list[Held]]:
        """Copies beyond the first that the master received itself, and those beyond its tries."""
        own: dict[bytes, list[Held]] = defaultdict(list)
        for held in everything:
            if held.fetched is None:
                own[held.value].append(held)
        unsent = [
            held
            for value, copies in own.items()
            for held in copies[self._ledger.tries[self._master, value] :]
        ]
        return sum(len(copies) - 1 for copies in own.values()), unsent
