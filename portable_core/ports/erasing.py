"""The port of erasing: what an operator has deleted, and its tombstones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from portable_core.ports.values import Milliseconds
from portable_core.records import Pair


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A webhook that an operator has deleted: its record's pair, its key, and the time.

    The key is empty if it is not known.
    """

    pair: Pair
    key: str
    at: Milliseconds


class Erasing(Protocol):
    """Erases records of a store. The pairs stay, so that the webhooks remain represented."""

    def erase(self, tombstones: Sequence[Tombstone]) -> int:
        """Save the tombstones, and erase payload and metadata of their records; both are durable.

        Returns how many records there were. Idempotent; records may be erased in part after an
        error. Raises ``StoreError``, also if the kind of store cannot erase.
        """
        ...

    def tombstones(self, after: int = 0) -> Iterator[tuple[int, Tombstone]]:
        """Yield the tombstones after a number, with their numbers, in the order of their saving."""
        ...
