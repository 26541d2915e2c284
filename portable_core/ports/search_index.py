"""The index of a store for searches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from portable_core.ports.values import Milliseconds
from portable_core.records import Pair, Record


class Candidates(NamedTuple):
    """Pairs of records that may match, newest first.

    ``reached``: every record at or after this pair was looked at; None if all were.
    """

    pairs: Sequence[Pair]
    reached: Pair | None


class SourceVolume(NamedTuple):
    """How many records of a source came from their senders, and were recovered from slaves."""

    direct: int
    recovered: int


@runtime_checkable
class SearchIndex(Protocol):
    """Finds records of a store by their terms (:mod:`portable_core.webhooks.terms`).

    A record that is not indexed yet counts as one that may match.
    """

    def index_by(self, terms: Callable[[Record], Collection[bytes]], version: int) -> None:
        """Index the records under these terms from the next :meth:`Store.open` on.

        ``version``: what was indexed under another one is indexed again.
        """
        ...

    def find(
        self, terms: Collection[bytes], start: Milliseconds, before: Pair, limit: int
    ) -> Candidates:
        """Return the newest records from ``start`` on and before the pair ``before`` that may have
        all these terms, at most ``limit``. With fewer, ``reached`` is where a bound of the time of
        one call ended it.
        """
        ...

    def volumes(
        self, start: Milliseconds, end: Milliseconds
    ) -> Mapping[Milliseconds, Mapping[str, SourceVolume]]:
        """Return the records of the hours from ``start`` to ``end`` by source, as far as they are
        indexed. An hour has the time of its start; of many sources in it, the last ones are
        counted together under ``…``.
        """
        ...
