"""The pairs of one part: those with hashes in a range, and as few of them as a comparison needs.

A crowd of webhooks within few spans does not fit into one request: the slave holds the master's
hashes within a few spans, and a window has the pairs of a span on either side, however short it is.
So such a window is compared part by part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from portable_core.ports import ALL_HASHES, HashRange, Milliseconds
from portable_core.records import Pair


def select_pairs(pairs: Iterable[Pair], hashes: HashRange) -> Iterable[Pair]:
    """Return the pairs whose hashes are in the range."""
    if hashes == ALL_HASHES:
        return pairs
    start, end = hashes
    return (pair for pair in pairs if start <= pair[1] < end)


def thin_pairs(pairs: Iterable[Pair], start: Milliseconds) -> Iterator[Pair]:
    """Return at most two pairs of each hash that represent the same records as all of them.

    Only for windows from ``start`` on that are at most a span and a millisecond long. Of the pairs
    before ``start``, the newest one of a hash represents all that an older one does; of the others,
    the oldest one. ``pairs`` is in order, and so is the result.
    """
    newest: dict[int, Milliseconds] = {}
    rest: Iterable[Pair] = ()
    source = iter(pairs)
    for pair in source:
        if pair.timestamp >= start:
            rest = chain((pair,), source)
            break
        newest.pop(pair.hash, None)  # so that the dictionary is in the order of the timestamps
        newest[pair.hash] = pair.timestamp
    for hash_, timestamp in newest.items():
        yield Pair(timestamp, hash_)
    newest.clear()
    seen: set[int] = set()
    for pair in rest:
        if pair.hash not in seen:
            seen.add(pair.hash)
            yield pair


def expect_collisions(pairs: int, window: Milliseconds, span: Milliseconds, hashes: int) -> float:
    """Return how many two of these pairs share a hash by chance, at most a span apart.

    ``window`` is the length of the time range of the pairs, ``hashes`` the number of different
    hashes that they may have: ``n`` webhooks within two spans make ``n**2 / 2**33`` of 32 bits.
    """
    return pairs * pairs * span / (max(window, 1) * hashes)
