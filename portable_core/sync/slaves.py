"""The slaves that a master knows: those in ``SLAVES``, and those that were in it before.

The state of a slave stays when the slave leaves ``SLAVES``: a slave that comes back under its name,
or with its store under another name, continues where it was. An operator forgets the state of a
slave that will not come back.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import msgspec

from portable_core.errors import Conflict, NotFound, SlaveError
from portable_core.ports import MasterStore, SlaveClient, SlaveState
from portable_core.sync.merge import SyncContext
from portable_core.sync.quarantine import Hold
from portable_core.sync.resuming import find_open_losses
from portable_core.sync.status import SlaveDocument

logger = logging.getLogger(__name__)


class SlavesDocument(msgspec.Struct, frozen=True):
    """The document of ``GET /slaves``: by name, first those in ``SLAVES``."""

    slaves: Mapping[str, SlaveDocument]


class Slaves:
    """What operators do with the slaves of one master. Safe to use from any thread."""

    def __init__(self, store: MasterStore, configured: Collection[str], hold: Hold) -> None:
        self._store = store
        self._configured = configured
        self._hold = hold

    def forget(self, name: str) -> None:
        """Forget the state of a slave that is no longer in ``SLAVES``, durably.

        Raises ``NotFound`` for an unknown slave, ``Conflict`` for one in ``SLAVES`` or with losses
        that no operator has acknowledged.
        """
        if name in self._configured:
            raise Conflict(
                f"slaves: {name[:80]!r} is in SLAVES or PROVIDER_LOGS. Remove it there and restart "
                "the master first."
            )
        with self._hold() as context:
            state = self._store.slave_states().get(name)
            if state is None:
                raise NotFound(f"slaves: no slave has the name {name[:80]!r}")
            if find_open_losses(state.losses):
                raise Conflict(
                    f"slaves: {name[:80]!r} has losses that are not acknowledged. Run webhook-sync "
                    f"losses acknowledge {name[:80]} --all first."
                )
            self._store.save_slave(context.lease, name, None)


def adopt_state(
    context: SyncContext,
    client: SlaveClient,
    states: Mapping[str, SlaveState],
    configured: Collection[str],
) -> SlaveState:
    """Return the state of a slave, which is that of its former name if the slave was renamed.

    A renamed slave has the store of a slave that is no longer configured. Its state moves to the
    new name, durably. The sync then finds out whether the store continues from it. Only slaves that
    no sync has reached yet are asked.
    """
    state = states.get(client.name, SlaveState())
    removed = {
        name: other for name, other in states.items() if name not in configured and other.store
    }
    if state.store or not removed:
        return state
    try:
        store = client.describe(context.may_go_on).store
    except SlaveError:
        return state  # the sync reports it
    former = next((name for name, other in removed.items() if other.store == store), None)
    if former is None:
        return state
    state = removed[former]
    # In this order: after an interruption both names have the state, which does no harm.
    context.store.save_slave(context.lease, client.name, state)
    context.store.save_slave(context.lease, former, None)
    logger.info("slave %s: continues as %s, which has the same store", former, client.name)
    return state
