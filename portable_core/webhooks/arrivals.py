"""The arrival feed: a master's webhooks in the order of their commits, for consumers.

A position names the store and a place in its order. Nothing is ever added before a position that
was given out, so a consumer that continues after one misses nothing. A response ends with a closing
line, which has the position from which to continue; a response without that line was cut, and the
lines that arrived are valid.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import msgspec
import orjson

from portable_core.errors import BadRequest, PositionUnknown, TooManyConsumers
from portable_core.payload_hash.canonical import is_plain
from portable_core.ports import BEGINNING, Arrival, MasterStore
from portable_core.records import Record, format_id
from portable_core.webhooks.names import Names, find_event
from portable_core.webhooks.payload_text import is_structured

#: The longest ``wait``, in seconds.
MAX_WAIT_S = 60.0

#: The value of ``after`` for the position after the newest record.
NOW = "now"

#: How many webhooks back a repeated key is recognised, how many of them are read where a run of
#: requests begins, and of how many runs the keys are kept.
REPEAT_WEBHOOKS = 10_000
REPEAT_BEFORE = 2_000
_RUNS = 16

#: Seconds between two looks for a stop, and between two reads of a store that other processes
#: write to.
_LOOK_S = 0.5
_POLL_S = 2.0

_VERSION = "1"
_POSITION = re.compile(r"1\.([0-9a-f]{32})\.([0-9a-z.-]{0,8000})")
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


# -- positions -------------------------------------------------------------------------------------


def format_position(store: str, place: str) -> str:
    """Return a position: a place (see :class:`.ArrivalOrder`) in the store of this UUID."""
    return f"{_VERSION}.{store.replace('-', '')}.{place}"


def parse_position(store: str, text: str) -> str:
    """Return the place of a position; the beginning for empty text.

    Raises ``BadRequest``, and ``PositionUnknown`` for a position of another store.
    """
    if not text:
        return BEGINNING
    match = _POSITION.fullmatch(text)
    if match is None:
        raise BadRequest("after: is not a position. Use one that the feed gave, or `now`.")
    if match[1] != store.replace("-", ""):
        raise PositionUnknown(
            "after: is a position of another store. Continue after `resume`, which is the "
            "beginning, and expect repeats.",
            format_position(store, BEGINNING),
        )
    return match[2]


@contextmanager
def _named_positions(store: MasterStore) -> Iterator[None]:
    """Give ``PositionUnknown`` a position of the feed in place of one of the store."""
    try:
        yield
    except PositionUnknown as error:
        resume = format_position(store.info().uuid, error.resume)
        raise PositionUnknown(str(error), resume) from error


def list_arrivals(store: MasterStore, place: str) -> Iterator[Arrival]:
    """Yield the records after a place. Raises ``PositionUnknown`` with a position of the feed."""
    with _named_positions(store):
        yield from store.arrivals(place)


def list_arrivals_before(store: MasterStore, place: str, count: int) -> Iterator[Arrival]:
    """Yield at most ``count`` records from before a place on; nothing if none is known."""
    with _named_positions(store):
        earlier = store.find_earlier(place, count)
    if earlier != place:
        yield from islice(list_arrivals(store, earlier), count)


# -- lines -----------------------------------------------------------------------------------------


def encode_arrival(
    position: str, record: Record, *, repeat: bool, raw: bool = False, event: str | None = None
) -> bytes:
    """Return the line of a record, without a line break. The ``event`` is by default a header's.

    ``data`` is the payload if it is JSON. ``raw``, its bytes in base64, is there if it is not, if
    readers may not carry the value exactly, or if ``raw`` is requested, then without ``data``.
    """
    recovery = record.recovery
    meta = record.meta
    head = orjson.dumps(
        {
            "position": position,
            "id": format_id(record.pair),
            "key": meta.key or None,
            "repeat": repeat,
            "source": meta.source,
            "event": (find_event(meta) if event is None else event) or None,
            "timestamp": record.pair.timestamp,
            "came": "direct" if recovery is None else recovery.slave,
            "headers": dict(meta.headers),
            "query": meta.query,
            **({"via": meta.via} if meta.via else {}),
        }
    )[:-1]
    payload = record.payload
    if not raw and is_plain(payload):
        return b'%b,"data":%b}' % (head, payload.translate(_LINE_BREAKS))
    encoded = base64.b64encode(payload)
    if raw or not _is_json(payload):
        return b'%b,"raw":"%b"}' % (head, encoded)
    return b'%b,"data":%b,"raw":"%b"}' % (head, payload.translate(_LINE_BREAKS), encoded)


def _is_json(payload: bytes) -> bool:
    """Return whether a payload is JSON that common readers accept inside of a line."""
    if not is_structured(payload) or payload.startswith(b"\xef\xbb\xbf"):
        return False
    try:
        payload.decode()
        msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return False
    return True


def encode_end(position: str) -> bytes:
    """Return the closing line."""
    return orjson.dumps({"end": True, "position": position})


# -- reading and waiting ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedQuery:
    """What a consumer asks for.

    ``source`` and ``event``: only webhooks with them, None for all. ``wait_s``: how long to wait
    for the first webhook. ``follow``: continue until ``wait_s`` have passed.
    """

    after: str = ""
    source: str | None = None
    event: str | None = None
    limit: int | None = None
    wait_s: float = 0.0
    raw: bool = False
    follow: bool = False


class FeedItem(NamedTuple):
    """A line of the response with its position.

    ``kind`` is ``webhook``, ``end`` for the closing line, or ``idle``: nothing came for a while.
    """

    kind: str
    position: str
    line: bytes = b""


@dataclass(slots=True)
class _Keys:
    """The keys of the last webhooks of one run of requests, in order."""

    keys: dict[str, None] = field(default_factory=dict)

    def add(self, key: str) -> bool:
        """Add a key; return whether it was there."""
        if not key:
            return False
        found = key in self.keys
        if not found:
            self.keys[key] = None
            if len(self.keys) > REPEAT_WEBHOOKS:
                del self.keys[next(iter(self.keys))]
        return found


class ArrivalFeed:
    """Reads the feed for any number of consumers. Safe to use from any thread."""

    def __init__(
        self,
        store: MasterStore,
        most_waiting: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        names: Names | None = None,
    ) -> None:
        """``most_waiting``: how many requests may wait at the same time. ``names`` finds events."""
        self._names = names or Names()
        self._store = store
        self._most_waiting = most_waiting
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._commits = 0
        self._waiting = 0
        #: The keys of runs of requests, by the position at which the run continues.
        self._runs: OrderedDict[str, _Keys] = OrderedDict()
        store.on_arrival(self._notify)

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return self._waiting

    def _notify(self) -> None:
        with self._changed:
            self._commits += 1
            self._changed.notify_all()

    def read(
        self, query: FeedQuery, stopped: Callable[[], bool] = lambda: False
    ) -> Generator[FeedItem, None, None]:
        """Yield the webhooks after a position, and the closing line.

        The response ends when nothing more is there, but not before the first webhook or before
        ``wait_s`` have passed. Raises ``BadRequest``, ``PositionUnknown``, ``TooManyConsumers``
        with the first item.
        """
        store = self._store.info().uuid
        if query.after == NOW:
            place = self._store.newest_arrival()
        else:
            place = parse_position(store, query.after)
        with self._counted(waits=query.wait_s > 0):
            yield from self._read(query, store, place, stopped)

    def _read(
        self, query: FeedQuery, store: str, place: str, stopped: Callable[[], bool]
    ) -> Iterator[FeedItem]:
        until = self._monotonic() + query.wait_s
        keys = self._take_keys(place)
        sent = 0
        while True:
            commits = self._commits
            for arrival in list_arrivals(self._store, place):
                place = arrival.position
                record = arrival.record
                repeat = keys.add(record.meta.key)
                if query.source not in (None, record.meta.source):
                    event = None
                else:
                    event = self._names.event(record)
                if event is not None and query.event in (None, event):
                    position = format_position(store, place)
                    line = encode_arrival(
                        position, record, repeat=repeat, raw=query.raw, event=event
                    )
                    yield FeedItem("webhook", position, line)
                    sent += 1
                if sent == query.limit or stopped():
                    break
            rest = until - self._monotonic()
            done = sent and (not query.follow or sent == query.limit)
            if done or rest <= 0 or stopped():
                break
            look = self._monotonic() + _POLL_S
            while not self._wait(commits, min(rest, _LOOK_S)):
                yield FeedItem("idle", format_position(store, place))
                rest = until - self._monotonic()
                if rest <= 0 or stopped() or (self._store.shared and self._monotonic() >= look):
                    break
        self._keep_keys(place, keys)
        position = format_position(store, place)
        yield FeedItem("end", position, encode_end(position))

    def _wait(self, commits: int, seconds: float) -> bool:
        """Wait for a commit after that many; return whether there was one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._commits != commits, seconds)

    @contextmanager
    def _counted(self, *, waits: bool) -> Iterator[None]:
        with self._changed:
            if waits and self._waiting >= self._most_waiting:
                raise TooManyConsumers(
                    f"{self._waiting} requests wait for webhooks already. Raise THREADS, or "
                    "request without wait."
                )
            self._waiting += waits
        try:
            yield
        finally:
            with self._changed:
                self._waiting -= waits

    # -- repeats -----------------------------------------------------------------------------------

    def _take_keys(self, place: str) -> _Keys:
        with self._changed:
            known = self._runs.get(place) if place else None
        return self._read_keys(place) if known is None else _Keys(known.keys.copy())

    def _read_keys(self, place: str) -> _Keys:
        """Return the keys of the webhooks before a place where no run has ended."""
        keys = _Keys()
        if place != BEGINNING:
            for arrival in list_arrivals_before(self._store, place, REPEAT_BEFORE):
                keys.add(arrival.record.meta.key)
                if arrival.position == place:
                    return keys
        return _Keys()  # the place was not met: what was read may lie after it

    def _keep_keys(self, place: str, keys: _Keys) -> None:
        with self._changed:
            self._runs[place] = keys
            self._runs.move_to_end(place)
            while len(self._runs) > _RUNS:
                self._runs.popitem(last=False)
