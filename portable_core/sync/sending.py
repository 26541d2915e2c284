"""The pairs that a sync request carries: chosen, limited and counted as they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from portable_core.ports import Milliseconds, Store
from portable_core.records import Pair
from portable_core.sync.merge import TooManyPairs
from portable_core.sync.parts import select_pairs, thin_pairs
from portable_core.sync.progress import Progress
from portable_core.sync.windows import Step
from portable_core.wire.negotiation import Encoding


class PairSender:
    """The master's pairs for one request.

    ``found`` counts the pairs with one of the step's hashes, ``sent`` those that were sent. The
    sending thread writes them.
    """

    def __init__(self, store: Store, span: Milliseconds, step: Step, progress: Progress) -> None:
        self._store = store
        self._span = span
        self._step = step
        self._progress = progress
        self.found = 0
        self.sent = 0

    def encode(self, encoding: Encoding) -> Iterator[bytes]:
        """Return the body of the request. Raises ``TooManyPairs``."""
        for chunk in encoding.encode_pairs(self._limit(self._choose())):
            self._progress.bytes_sent += len(chunk)
            yield chunk

    def _choose(self) -> Iterable[Pair]:
        """Return the pairs of the window and of a span on either side, of the step's hashes."""
        step, span = self._step, self._span
        pairs = self._store.pairs(step.start - span, step.end + span)
        found = self._count(select_pairs(pairs, step.hashes))
        return thin_pairs(found, step.start) if step.is_part else found

    def _count(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        for pair in pairs:
            self.found += 1
            yield pair

    def _limit(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        step, limited = self._step, 0
        for pair in pairs:
            if step.limit is not None and pair.timestamp >= step.limited_from:
                limited += 1
                if limited > step.limit:
                    raise TooManyPairs(pair.timestamp)
            self.sent += 1
            self._progress.pairs_sent += 1
            yield pair
