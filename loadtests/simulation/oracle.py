"""Judge a history from outside: by the senders' responses, and by the records on the disks.

It knows nothing of cursors' logic, windows, sessions or encodings. It keeps its own ledger of every
acknowledged webhook, and the one definition that everything rests on: a payload is represented by a
record with its hash at most one span away.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loadtests.simulation.disk import Disk
from portable_core.epochs import NotedLoss
from portable_core.errors import MalformedPayload
from portable_core.ingest.identifier import Identifier
from portable_core.ports import Milliseconds
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.sync.floor import read_floor

#: Identifies webhooks as the nodes of a history do.
_identifier = Identifier("crc32c", b"", {})


class DiskLife(NamedTuple):
    """A disk from a new generation, or a restore, to the next one."""

    uuid: str
    generation: int
    lineage: int


class Violation(AssertionError):
    """A promise was broken. ``promise`` is its short name."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise


@dataclass(slots=True, eq=False)
class AcknowledgedWebhook:
    """A webhook whose sender got 200, and the disk on which it was then.

    ``arrived`` is the true time, which no node knows. ``lost`` is set when the disk lost it by an
    accident that the promises do not cover, before any master could have had it.
    """

    node: str
    disk: str
    pair: Pair
    payload: bytes
    meta: Meta
    arrived: Milliseconds
    lost: bool = False


class Oracle:
    """Observes every event; raises :class:`Violation` as early as possible.

    ``collides`` returns whether another payload with the same hash may have been sent.
    """

    def __init__(
        self, span: Milliseconds, master: Disk, collides: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        self._span = span
        self._master = master
        self._collides = collides
        self._acknowledged: dict[tuple[str, Pair], AcknowledgedWebhook] = {}
        self._stored: dict[Pair, set[tuple[bytes, Meta]]] = defaultdict(set)
        self._sent: set[tuple[bytes, Meta]] = set()
        self._horizons: dict[DiskLife, Milliseconds] = {}
        self._by_hash: dict[int, list[Pair]] = defaultdict(list)
        self._lost_by_hash: dict[int, list[Pair]] = defaultdict(list)
        self._fetched: dict[Pair, str] = {}
        #: The latest horizon of the master that a repair has set back.
        self._repaired: Milliseconds = 0
        #: Pairs whose bytes on a disk are no longer those that came in, by disk.
        self.corrupted: set[tuple[str, Pair]] = set()
        #: How often each thing happened that a history should contain.
        self.counts: Counter[str] = Counter()

    # -- what happens ------------------------------------------------------------------------------

    def send(self, payload: bytes, meta: Meta) -> None:
        """A sender sends this to any number of nodes."""
        self._sent.add((payload, _strip(meta)))

    def acknowledge(self, webhook: AcknowledgedWebhook) -> None:
        """Note that a sender got 200."""
        self.counts["acknowledged"] += 1
        self._acknowledged[webhook.disk, webhook.pair] = webhook

    def tell_horizon(self, life: DiskLife, horizon: Milliseconds) -> None:
        """Note the horizon that a slave reported to a master."""
        self._horizons[life] = max(horizon, self._horizons.get(life, 0))

    def store(self, disk: Disk, records: Sequence[Record], *, by_hand: bool) -> None:
        """These records are on this disk now; those of another node ``by_hand`` or by a sync."""
        for record in records:
            if record.recovery is None:
                how = "received"
                self._check_received(disk, record)
            else:
                how = "handed over" if by_hand else "fetched"
                self._check_fetched(record, how)
            if disk is self._master:
                self._check_needless(record, how)
                self._add(record.pair, how)

    def _add(self, pair: Pair, how: str) -> None:
        insort(self._by_hash[pair.hash], pair)
        self._fetched[pair] = how

    def lose_master(self, records: Iterable[Record]) -> None:
        """The master's disk cannot read these any more."""
        for record in records:
            self._by_hash[record.pair.hash].remove(record.pair)
            insort(self._lost_by_hash[record.pair.hash], record.pair)

    def regain_master(self, records: Iterable[Record]) -> None:
        """It can again; meanwhile they may have been fetched."""
        for record in records:
            self._add(record.pair, "regained")

    def forgive(self, disk: str, pairs: Iterable[Pair]) -> None:
        """An accident takes these from a disk: what no master could have yet is not promised."""
        for pair in pairs:
            webhook = self._acknowledged.get((disk, pair))
            if webhook is not None and not self.is_safe(disk, pair):
                webhook.lost = True
                self.counts["lost with a disk"] += 1

    def forgive_uncommitted(self, disk: str, is_committed: Callable[[Pair], bool]) -> None:
        """Forgive the loss of a process whose senders got 200 before the commit."""
        self.forgive(
            disk,
            [
                pair
                for webhook_disk, pair in self._acknowledged
                if webhook_disk == disk and not is_committed(pair)
            ],
        )

    def confirm(self, disk: Disk) -> None:
        """The master has confirmed that it took over everything that is on this disk."""
        self.remove(disk.uuid, disk.pairs(0, MAX_INTEGER))

    def remove(self, disk: str, pairs: Iterable[Pair]) -> None:
        """A slave believes that it may forget these. It cannot know what the master lost again."""
        for pair in pairs:
            if self.is_safe(disk, pair):
                continue
            if not self._find_near(pair, self._lost_by_hash):
                raise Violation("lost", f"{pair} was forgotten and is not in the master")
            self.forgive(disk, [pair])

    def forgive_unreadable(self, is_readable: Callable[[str, Pair], bool]) -> None:
        """The master's disk lost something: what its node does not have either is not promised."""
        for disk, pair in self._acknowledged:
            if not is_readable(disk, pair):
                self.forgive(disk, [pair])

    def unforgive(self, disk: str, pairs: Iterable[Pair]) -> None:
        """They are back."""
        for pair in pairs:
            if (disk, pair) in self._acknowledged:
                self._acknowledged[disk, pair].lost = False

    def move(self, disk: Disk, moved: Mapping[Pair, Pair], horizon: Milliseconds) -> None:
        """A repair gave these pairs of a disk new timestamps, and set its ``horizon`` back."""
        told = self._horizons.get(DiskLife(disk.uuid, disk.generation, disk.lineage), 0)
        for old, new in moved.items():
            if new.timestamp < told:
                raise Violation("horizon", f"{new} was moved before {told}, a reported horizon")
            self._stored[new] |= self._stored[old]
            webhook = self._acknowledged.pop((disk.uuid, old), None)
            if webhook is not None:
                webhook.pair = new
                self._acknowledged[disk.uuid, new] = webhook
            if (disk.uuid, old) in self.corrupted:
                self.corrupted.add((disk.uuid, new))
            if disk is self._master:
                self._by_hash[old.hash].remove(old)
                self._add(new, self._fetched[old])
        if disk is self._master:
            self._repaired = max(self._repaired, horizon)

    def list_lost(self, disk: str, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the acknowledged webhooks among these that an accident took from a disk."""
        return [
            pair
            for pair in pairs
            if (disk, pair) in self._acknowledged
            and self._acknowledged[disk, pair].lost
            and not self.is_safe(disk, pair)
        ]

    # -- the promises ------------------------------------------------------------------------------

    def find_near(self, pair: Pair) -> list[Pair]:
        """The master's pairs that represent ``pair``."""
        return self._find_near(pair, self._by_hash)

    def _find_near(self, pair: Pair, by_hash: Mapping[int, list[Pair]]) -> list[Pair]:
        pairs = by_hash.get(pair.hash, [])
        low = bisect_left(pairs, Pair(pair.timestamp - self._span, 0))
        high = bisect_left(pairs, Pair(pair.timestamp + self._span + 1, 0))
        return pairs[low:high]

    def is_safe(self, disk: str, pair: Pair) -> bool:
        """Whether the master represents the pair, or has set it aside where it cannot but."""
        return bool(self.find_near(pair)) or self._is_aside(pair)

    def _is_aside(self, pair: Pair) -> bool:
        return any(item.record.pair == pair for item in self._master.quarantine())

    def _check_received(self, disk: Disk, record: Record) -> None:
        if (record.payload, _strip(record.meta)) not in self._sent:
            raise Violation(
                "bytes", f"{record.pair} contains a webhook that no sender sent: {record.payload!r}"
            )
        told = self._horizons.get(DiskLife(disk.uuid, disk.generation, disk.lineage), 0)
        if record.pair.timestamp < told:
            raise Violation("horizon", f"{record.pair} appears before {told}, a reported horizon")
        self._stored[record.pair].add((record.payload, record.meta))

    def _check_fetched(self, record: Record, how: str) -> None:
        self.counts[how] += 1
        if (record.payload, record.meta) not in self._stored[record.pair]:
            raise Violation("bytes", f"{record.pair} was changed on its way: {record.payload!r}")

    def _check_needless(self, record: Record, how: str) -> None:
        near = [pair for pair in self.find_near(record.pair) if pair != record.pair]
        if record.recovery is not None and near:
            raise Violation("needless", f"{record.pair} was {how} although {near[0]} is there")
        if record.recovery is None:
            for pair in near:
                # What a stopping slave handed over may overtake the master's own copy, and what
                # was fetched for a damaged part meets what comes back with it. Before a repair of
                # the master, syncs relied on a horizon behind which its own records come now.
                if self._fetched[pair] == "fetched" and record.pair.timestamp >= self._repaired:
                    raise Violation("needless", f"{pair} was fetched, {record.pair} was on its way")

    def check_cursors(self, slaves: Iterable[tuple[str, Disk]]) -> None:
        """Everything before a cursor, and in a part that is done, is represented in the master."""
        states = self._master.slave_states()
        for name, disk in slaves:
            state = states.get(name)
            if state is None or state.cursor is None:
                continue
            if (state.store, state.generation) != (disk.uuid, disk.generation):
                continue
            if state.stint is not None and not disk.has_reported(*state.stint):
                continue  # restored; the next sync has to notice that
            for pair in disk.pairs(0, state.cursor):
                if not self.is_safe(disk.uuid, pair):
                    raise Violation(
                        "cursor", f"{name}: {pair} is before {state.cursor} and not there"
                    )
            part = state.part
            if part is None or part.start != state.cursor:
                continue
            for pair in disk.pairs(part.start, part.end):
                if pair.hash < part.done and not self.is_safe(disk.uuid, pair):
                    raise Violation("part", f"{name}: {pair} is in {part} and not there")

    def check_named(self, pairs: Iterable[Pair], losses: Sequence[NotedLoss]) -> None:
        """The master names these webhooks as lost."""
        for pair in pairs:
            if not any(
                (loss.start or 0) <= pair.timestamp
                and (loss.end is None or pair.timestamp < loss.end)
                for loss in losses
            ):
                raise Violation("unnamed", f"{pair} is lost, and no loss names it")

    def check_all(self) -> None:
        """After the last whole sync of every node: nothing acknowledged is missing."""
        aside = set()
        for item in self._master.quarantine():
            aside.add(item.record.pair)
            if _is_sound(item.record) and "future" not in item.reason:
                raise Violation("aside", f"{item} was set aside without a reason")
        for webhook in self._acknowledged.values():
            if webhook.lost:
                continue
            near = self.find_near(webhook.pair)
            if not near and (webhook.disk, webhook.pair) in self.corrupted:
                if webhook.pair not in aside:
                    raise Violation("lost", f"{webhook} had other bytes and is not set aside")
                continue
            if not near and webhook.pair not in aside:
                raise Violation("lost", f"{webhook}")
            if near and not self._collides(webhook.payload):
                self._check_value(webhook, near)

    def _check_value(self, webhook: AcknowledgedWebhook, near: Sequence[Pair]) -> None:
        key = _find_key(webhook.payload, webhook.meta)
        if any(_find_key(r.payload, r.meta) == key for r in self._master.fetch(near)):
            return
        floor = read_floor(self._master)
        removed = [pair for pair in near if pair.timestamp < floor]
        stored = [value for pair in removed for value in self._stored[pair]]
        if any(_find_key(payload, meta) == key for payload, meta in stored):
            return  # retention has removed it
        raise Violation("bytes", f"{webhook} is there with another value")


def _strip(meta: Meta) -> Meta:
    """What a sender sent; the rest is a node's."""
    return Meta(meta.source, meta.headers, meta.query)


def _find_key(payload: bytes, meta: Meta) -> str:
    return _identifier.identify(payload, meta).meta.key


def _is_sound(record: Record) -> bool:
    try:
        _identifier.check(record)
    except MalformedPayload:
        return False
    return True
