"""The parts that both encodings share: the reader of a stream, its limits, the checks of pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from portable_core.errors import MalformedStream, StreamCut
from portable_core.records import MAX_INTEGER, Pair, Record

T = TypeVar("T")

#: A chunk is parsed in slices of at most so many bytes, so that a parser makes few objects of a
#: hostile chunk, whatever its size. (A slice has some 580 pairs, fewer objects than the threshold
#: of the garbage collector: if each slice is dropped before the next one is parsed, reading is a
#: quarter faster than in slices of 64 KiB.)
SLICE_BYTES = 8 * 1024

#: A payload of this size or more becomes a chunk of its own, so that it is not copied.
OWN_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WireLimits:
    """The largest record on the wire; a larger one raises :class:`StreamTooLarge`.

    The defaults admit every record that a node may hold: the largest payload has 40 MiB, which are
    54 MiB in base64.

    - ``element_bytes``: the text of a JSON record; the payload of a MessagePack record.
    - ``meta_bytes``: the text of a JSON record's meta; a MessagePack record without its payload.
    """

    element_bytes: int = 64 * 2**20
    meta_bytes: int = 2**20


DEFAULT_LIMITS = WireLimits()


class Reader(ABC, Generic[T]):
    """Reads a stream in chunks of any size and returns its items as they are completed.

    A fault never loses the items before it, and is always the same: the ``feed`` that finds it
    returns the items before it, if there are any, and the next call of ``feed`` or ``finish``
    raises it, as does every later one. ``feed(b"")`` raises it at once. The division of a stream
    into chunks changes neither its items nor the element at fault.
    """

    #: The plural of an item in messages.
    noun: ClassVar[str]

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._fault: MalformedStream | None = None

    def feed(self, data: bytes) -> list[T]:
        """Return the items that ``data`` completes.

        Raises ``MalformedStream`` or ``StreamTooLarge``.
        """
        if self._fault is not None:
            raise self._fault
        items: list[T] = []
        try:
            for piece in split_slices(data):
                self._read(piece, items)
        except MalformedStream as fault:
            self._fault = fault
            if not items:
                raise
        finally:
            self._count += len(items)
        return items

    def finish(self) -> None:
        """End the input. Raises ``StreamCut`` unless the closing mark was read."""
        if self._fault is not None:
            raise self._fault
        if not self._closed:
            raise StreamCut(
                f"the stream ended after {self._count} {self.noun}, without its closing mark"
            )

    @property
    def whole(self) -> bool:
        """Whether the closing mark was read, without a fault before or after it."""
        return self._closed and self._fault is None

    @property
    def count(self) -> int:
        """The number of items so far."""
        return self._count

    @abstractmethod
    def _read(self, data: bytes, items: list[T]) -> None:
        """Append the items that ``data`` completes to ``items``; raise at the first fault.

        ``data`` is not empty and at most ``SLICE_BYTES`` long. The index of the element that is
        being read is ``self._count + len(items)``.
        """


class PairReader(Reader[Pair]):
    """Checks the integers of a stream of pairs, for both encodings."""

    noun = "pairs"

    def __init__(self) -> None:
        super().__init__()
        self._half: list[Any] = []
        self._last = 0

    def _add(self, values: list[Any], pairs: list[Pair]) -> None:
        """Append the pairs that ``values``, hash and timestamp in turn, complete.

        Raises :class:`MalformedStream` at the first value that is not an integer of 0 to
        ``MAX_INTEGER``, and at the first timestamp that is smaller than the one before it.
        """
        values = self._half + values
        paired = len(values) & ~1
        hashes, timestamps = values[0:paired:2], values[1:paired:2]
        # The whole batch is checked at once by functions that loop in C; `type` distinguishes a
        # bool from an int. Timestamps in order are in range if the first and the last one are.
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
            self._add_singly(values, pairs)
            return
        pairs.extend(map(tuple.__new__, repeat(Pair), zip(timestamps, hashes, strict=True)))
        if timestamps:
            self._last = timestamps[-1]
        self._half = values[paired:]

    def _add_singly(self, values: list[Any], pairs: list[Pair]) -> None:
        """Append the pairs value by value, to find the value at fault."""
        self._half = []
        for value in values:
            element, name = self._next_value(pairs)
            check_integer(name, value, element)
            if name == "hash":
                self._half = [value]
            elif value < self._last:
                raise MalformedStream(
                    f"timestamp: must not decrease (got {value} after {self._last})", element
                )
            else:
                pairs.append(Pair(value, self._half.pop()))
                self._last = value

    def _next_value(self, pairs: Sequence[Pair]) -> tuple[int, str]:
        """Return the index of the next value's pair, and which half of the pair it is."""
        return self._count + len(pairs), "timestamp" if self._half else "hash"

    def _close(self, pairs: Sequence[Pair]) -> None:
        """Note the closing mark. Raises :class:`MalformedStream` after half a pair."""
        if self._half:
            raise MalformedStream("timestamp: missing", self._count + len(pairs))
        self._closed = True


class Encoding(Protocol):
    """One way to write pairs and records. Every stream ends with a closing mark."""

    @property
    def media_type(self) -> str: ...

    def encode_pairs(self, pairs: Iterable[Pair], chunk_pairs: int = ...) -> Iterator[bytes]:
        """Return chunks of ``chunk_pairs`` pairs, some 50 KiB by default, and the closing mark."""
        ...

    def read_pairs(self) -> Reader[Pair]: ...

    def encode_records(self, records: Iterable[Record]) -> Iterator[bytes]:
        """Return each record at once, in one chunk or more, and at the end the closing mark."""
        ...

    def read_records(self, limits: WireLimits = ...) -> Reader[Record]: ...


def split_slices(data: bytes) -> Iterator[bytes]:
    """Return ``data`` in pieces of at most ``SLICE_BYTES``."""
    if len(data) <= SLICE_BYTES:
        return iter((data,) if data else ())
    return (data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES))


def flatten_pairs(pairs: Iterable[Pair], length: int) -> Iterator[list[int]]:
    """Return the integers of ``length`` pairs at a time, in the order of the wire."""
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
    return MalformedStream(f"{name}: must be an integer of 0 to 2^53-1 (got {what})", element)


def quote(value: object) -> str:
    """Return a value of the stream as a short text for a message."""
    shown = str(value, "utf-8", "replace") if isinstance(value, bytes) else None
    if shown is None:
        # A container may be of any depth and size: the message has only its type.
        simple = value is None or isinstance(value, bool | int | float | str)
        shown = repr(value) if simple else type(value).__name__
    return shown if len(shown) <= 40 else shown[:40] + "…"
