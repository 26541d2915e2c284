"""The port of retention on a master: what may be removed, by consumers and by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portable_core.ports.master_state import Lease
from portable_core.ports.values import Milliseconds
from portable_core.records import Record


class Removal(Protocol):
    """What a store knows about the records that retention may remove; and bringing them back."""

    def find_first_after(self, position: str) -> Milliseconds | None:
        """Return a time that none of the records after a position lies before; None without any.

        It may be earlier than the first of them by the length of a part. The position is one in the
        order of arrival; raises as :meth:`.ArrivalOrder.arrivals` does.
        """
        ...

    def import_records(self, lease: Lease, records: Sequence[Record]) -> None:
        """Store records that were removed from a store, durably, under the lease. Idempotent.

        They come before all others in the order of arrival, in the order of their pairs: a consumer
        that is past the beginning does not get them.
        """
        ...

    def find_size_cut(self, limit: int, before: Milliseconds) -> Milliseconds:
        """Return the time before which records must be removed to leave at most ``limit`` bytes.

        Only whole hours that end at or before ``before`` are counted, and the newest hour of the
        store is never removed. 0 if nothing must be removed.
        """
        ...
