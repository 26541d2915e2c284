"""What both encodings of a stream share: the rules of a reader, its limits, the checks of pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from portable_core.errors import MalformedStream, StreamCut
from portable_core.records import MAX_INTEGER, Pair, Record

T = TypeVar("T")

#: A chunk is worked on in slices of at most so many bytes, so that what a parser makes of hostile
#: ones stays small whatever the size of the chunk. (Some 580 pairs a slice are also fewer objects
#: than Python's garbage collector waits for: reading them is a quarter faster than in slices of 64
#: KiB, if they are let go of one slice after the other.)
SLICE_BYTES = 8 * 1024

#: A payload of this size or more is a chunk of its own, so that it is not copied.
OWN_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How large one record may be on the wire; a larger one is :class:`StreamTooLarge`.

    The defaults hold what any node takes: a payload of 40 MiB, the most there can be, has 54 MiB as
    base64.

    ``element_bytes``: the text of one JSON record; the payload of a MessagePack one.
    ``meta_bytes``: the text of a JSON record's meta; all of a MessagePack record but its payload.
    """

    element_bytes: int = 64 * 2**20
    meta_bytes: int = 2**20


DEFAULT_LIMITS = WireLimits()


class Reader(ABC, Generic[T]):
    """Takes a stream in chunks of any size and gives its items as they are completed.

    A fault never costs the items before it, and never comes twice as two different ones: the
    ``feed`` that meets it returns the items before it, if there are any, and the next call of
    ``feed`` or ``finish`` raises it; so does every later one. ``feed(b"")`` asks for it at once.
    How a stream is cut into chunks changes neither its items nor the element at fault.
    """

    #: What the items are called in messages.
    noun: ClassVar[str]

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._fault: MalformedStream | None = None

    def feed(self, data: bytes) -> list[T]:
        """The items that ``data`` completes. Raises ``MalformedStream`` or ``StreamTooLarge``."""
        if self._fault is not None:
            raise self._fault
        items: list[T] = []
        try:
            for piece in take_slices(data):
                self._read(piece, items)
        except MalformedStream as fault:
            self._fault = fault
            if not items:
                raise
        finally:
            self._count += len(items)
        return items

    def finish(self) -> None:
        """To be called when the input has ended: raises ``StreamCut`` unless the mark was read."""
        if self._fault is not None:
            raise self._fault
        if not self._closed:
            raise StreamCut(
                f"the stream ended after {self._count} {self.noun}, without its closing mark"
            )

    @property
    def whole(self) -> bool:
        """Whether the closing mark was read, and nothing wrong before or after it."""
        return self._closed and self._fault is None

    @property
    def count(self) -> int:
        """Items so far."""
        return self._count

    @abstractmethod
    def _read(self, data: bytes, items: list[T]) -> None:
        """Append to ``items`` those that ``data`` completes; raise at the first fault after them.

        ``data`` is not empty and at most ``SLICE_BYTES`` long. An element's index is
        ``self._count + len(items)`` when it is met.
        """


class PairReader(Reader[Pair]):
    """The checks of a stream of pairs, whatever carries its integers."""

    noun = "pairs"

    def __init__(self) -> None:
        super().__init__()
        self._half: list[Any] = []
        self._last = 0

    def _take(self, values: list[Any], pairs: list[Pair]) -> None:
        """Append the pairs that ``values``, hash and timestamp by turns, complete.

        Raises :class:`MalformedStream` at the first value that is not a whole number from 0 to
        ``MAX_INTEGER``, and at the first timestamp that is smaller than the one before it.
        """
        values = self._half + values
        paired = len(values) & ~1
        hashes, timestamps = values[0:paired:2], values[1:paired:2]
        # A whole batch is checked at once, by functions that loop in C; `type` tells a bool from
        # an int. Timestamps in order are in range if the first and the last one are.
        sound = (
            set(map(type, values)) <= {int}
            and (not values or (min(values[::2]) >= 0 and max(values[::2]) <= MAX_INTEGER))
            and (
                not timestamps
                or (
                    timestamps[0] >= self._last
                    and timestamps[-1] <= MAX_INTEGER
                    and sorted(timestamps) == timestamps
                )
            )
        )
        if not sound:
            self._take_singly(values, pairs)
            return
        pairs.extend(map(tuple.__new__, repeat(Pair), zip(timestamps, hashes, strict=True)))
        if timestamps:
            self._last = timestamps[-1]
        self._half = values[paired:]

    def _take_singly(self, values: list[Any], pairs: list[Pair]) -> None:
        """The same value by value, to find the one at fault."""
        self._half = []
        for value in values:
            element, name = self._next_value(pairs)
            check_integer(name, value, element)
            if name == "hash":
                self._half = [value]
            elif value < self._last:
                raise MalformedStream(f"its timestamp {value} comes after {self._last}", element)
            else:
                pairs.append(Pair(value, self._half.pop()))
                self._last = value

    def _next_value(self, pairs: Sequence[Pair]) -> tuple[int, str]:
        """The element that the next value belongs to, and which of the two it is."""
        return self._count + len(pairs), "timestamp" if self._half else "hash"

    def _close(self, pairs: Sequence[Pair]) -> None:
        """The closing mark was read. Raises :class:`MalformedStream` after half a pair."""
        if self._half:
            raise MalformedStream("its timestamp is missing", self._count + len(pairs))
        self._closed = True


class Encoding(Protocol):
    """One way to write pairs and records. Every stream ends with a closing mark."""

    @property
    def media_type(self) -> str: ...

    def encode_pairs(self, pairs: Iterable[Pair], chunk_pairs: int = ...) -> Iterator[bytes]:
        """``chunk_pairs`` of them a chunk, some 50 KiB by default, and the closing mark."""
        ...

    def read_pairs(self) -> Reader[Pair]: ...

    def encode_records(self, records: Iterable[Record]) -> Iterator[bytes]:
        """Each record as soon as it is there, in one chunk or more, and the closing mark."""
        ...

    def read_records(self, limits: WireLimits = ...) -> Reader[Record]: ...


def take_slices(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces of at most ``SLICE_BYTES``."""
    if len(data) <= SLICE_BYTES:
        return iter((data,) if data else ())
    return (data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES))


def take_batches(pairs: Iterable[Pair], length: int) -> Iterator[list[int]]:
    """The values of ``length`` pairs at a time, in the order of the wire."""
    source = iter(pairs)
    while batch := list(islice(source, length)):
        values = [0] * (2 * len(batch))
        values[1::2], values[0::2] = zip(*batch, strict=True)
        yield values


def check_integer(name: str, value: object, element: int) -> None:
    """Raise ``MalformedStream`` unless ``value`` can be a hash or a timestamp."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise not_an_integer(name, quote(value), element)


def not_an_integer(name: str, what: str, element: int) -> MalformedStream:
    return MalformedStream(f"its {name} is not an integer from 0 to 2^53-1 but {what}", element)


def quote(value: object) -> str:
    """A value from outside for a message, short whatever it is."""
    shown = str(value, "utf-8", "replace") if isinstance(value, bytes) else None
    if shown is None:
        # A container may be as deep or as large as its sender liked: only its kind is told.
        simple = value is None or isinstance(value, bool | int | float | str)
        shown = repr(value) if simple else type(value).__name__
    return shown if len(shown) <= 40 else shown[:40] + "…"
