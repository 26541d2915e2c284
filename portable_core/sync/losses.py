"""Losses of acknowledged webhooks: what a slave reports, and what operators of a master do.

A loss keeps its slave from being complete until an operator acknowledges it: nothing can bring the
webhooks back, but operators have to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from portable_core.epochs import MAX_LOSSES, Loss, NotedLoss
from portable_core.errors import NotFound
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Damage, MasterStore
from portable_core.sync.quarantine import Hold
from portable_core.sync.resuming import acknowledge_losses, make_loss_id

_MOST_CHARACTERS = 500


class SlaveLoss(NotedLoss, frozen=True):
    """A loss with the name of its slave."""

    slave: str = ""


class LossesDocument(msgspec.Struct, frozen=True):
    """The document of ``GET /losses``: first the losses that no operator has acknowledged."""

    losses: Sequence[SlaveLoss]


def describe_damages(damages: Iterable[Damage]) -> tuple[Loss, ...]:
    """Return the losses of a slave's store as it reports them, the newest ones if they are many.

    The id depends on what was lost, not on the reason, of which there may be several.
    """
    ordered = sorted(damages, key=lambda damage: (damage.start or 0, damage.name))
    return tuple(
        Loss(
            make_loss_id(damage.name, damage.start, damage.end),
            damage.name[:_MOST_CHARACTERS],
            damage.reason[:_MOST_CHARACTERS],
            damage.start,
            damage.end,
        )
        for damage in ordered[-MAX_LOSSES:]
    )


class Losses:
    """The losses of all slaves of one master. Safe to use from any thread."""

    def __init__(self, receiver: Receiver, store: MasterStore, hold: Hold) -> None:
        self._receiver = receiver
        self._store = store
        self._hold = hold

    def describe(self) -> LossesDocument:
        """Return all known losses."""
        self._receiver.open()
        losses = [
            SlaveLoss(**msgspec.structs.asdict(loss), slave=name)
            for name, state in self._store.slave_states().items()
            for loss in state.losses
        ]
        losses.sort(key=lambda loss: (loss.acknowledged is not None, loss.slave, loss.start or 0))
        return LossesDocument(losses)

    def acknowledge(self, slave: str, id_: str) -> None:
        """Acknowledge a loss, durably. Raises ``NotFound``."""
        now = self._receiver.clock.now()
        with self._hold() as context:
            state = self._store.slave_states().get(slave)
            changed = None if state is None else acknowledge_losses(state, id_, now)
            if changed is None:
                raise NotFound(f"losses: {slave[:80]!r} has no loss {id_[:80]!r}")
            self._store.save_slave(context.lease, slave, changed)
