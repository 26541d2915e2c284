"""The floor of a master: what its retention removed, no sync fetches again.

Retention removes records only after every configured slave is complete past them. It first raises
the floor to a span after the removed records, durably: the slaves' records before it may have been
represented by removed ones. No sync of a slave begins before the floor. Records before it that are
not known to be complete for the slave are a loss, which the master reports: the slave was added
late, its store is another one, or it was left out of ``SLAVES`` for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from portable_core.epochs import NotedLoss
from portable_core.ports import MasterStore, Milliseconds, SlaveInfo, SlaveState, Store
from portable_core.records import Record
from portable_core.sync.resuming import add_loss, make_loss_id

#: The name of the mark of a master's store.
FLOOR = "floor"

BELOW_FLOOR = (
    "retention has removed this time from the master, so these records of the slave are not fetched"
)


def read_floor(store: Store) -> Milliseconds:
    """Return the time before which no sync fetches records; 0 if nothing was removed."""
    return store.mark(FLOOR)


def drop_complete(store: MasterStore, slave: str, records: Sequence[Record]) -> Sequence[Record]:
    """Return the records of a hand-over that are not complete already, before the floor.

    The others are represented: the master was complete past them before it removed its own.
    """
    floor = read_floor(store)
    if all(record.pair.timestamp >= floor for record in records):
        return records
    cursor = store.slave_states().get(slave, SlaveState()).cursor or 0
    return [record for record in records if record.pair.timestamp >= min(floor, cursor)]


def begin_at_floor(
    before: SlaveState, state: SlaveState, info: SlaveInfo, floor: Milliseconds
) -> SlaveState:
    """Return the state with a cursor that is not before the floor.

    ``before`` is the state as it was saved, ``state`` the one from which the sync would continue
    otherwise: its cursor is at the first record that is to be compared. Records between that cursor
    and the floor are noted as a loss, unless they were complete in the same store of the slave.
    """
    start = state.cursor or 0
    if start >= floor:
        return state
    if before.store == info.store and info.continues is not False:
        start = max(start, before.cursor or 0)
    state = replace(state, cursor=floor, part=None)
    if start >= floor:
        return state
    id_ = make_loss_id("floor", info.store, info.generation, start, floor)
    loss = NotedLoss(id_, "floor", BELOW_FLOOR, start, floor, info.now, reported=False)
    return replace(state, losses=add_loss(state.losses, loss))
