"""What the master sends to a slave, limited and counted while another thread takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from portable_core.ports import Milliseconds
from portable_core.records import Pair
from portable_core.sync.merge import LimitReached


@dataclass(slots=True)
class Sent:
    """What the thread that sends has sent; only that thread writes here."""

    pairs: int = 0
    bytes: int = 0


def limit_pairs(pairs: Iterator[Pair], start: Milliseconds, limit: int) -> Iterator[Pair]:
    """Pass the pairs on; end the exchange at more than ``limit`` of them from ``start`` on."""
    count = 0
    for pair in pairs:
        if pair.timestamp >= start:
            count += 1
            if count > limit:
                raise LimitReached
        yield pair


def count_pairs(pairs: Iterator[Pair], sent: Sent) -> Iterator[Pair]:
    for pair in pairs:
        sent.pairs += 1
        yield pair


def count_bytes(chunks: Iterable[bytes], sent: Sent) -> Iterator[bytes]:
    for chunk in chunks:
        sent.bytes += len(chunk)
        yield chunk
