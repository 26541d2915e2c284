"""Whether a sync may continue from its cursor, and what the slave has lost.

A cursor holds for one store of the slave: its UUID, its generation, and its stints. If the slave
comes back with another store, or with an earlier or a copied state of its store, the sync compares
from the first record again. What the slave received after the cursor may then be lost, which the
master keeps as a loss until an operator acknowledges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Protocol

from msgspec import structs

from portable_core.epochs import MAX_LOSSES, Loss, NotedLoss, Stint
from portable_core.ports import Milliseconds, SlaveInfo, SlaveState

#: The ``warning_type`` of a report while losses are not acknowledged.
LOSSES_WARNING = "LossesNotAcknowledged"

ANOTHER_STORE = "the slave came back with another store"
EARLIER_STORE = "the slave came back with an earlier state or a copy of its store"


def resume(state: SlaveState, info: SlaveInfo) -> SlaveState:
    """Return the state from which a sync continues, for a slave that describes itself so.

    ``cursor`` is None if all records are to be compared again.
    """
    known = bool(state.store)
    same_store = info.store == state.store
    continues = not known or (same_store and info.continues is not False)
    state = replace(state, losses=merge_losses(state, info, continues=continues))
    reported = Stint(info.stint, info.horizon) if info.stint else None
    if same_store and continues and info.generation == state.generation:
        return replace(state, stint=_choose_stint(state.stint, reported))
    return replace(
        state,
        cursor=None,
        store=info.store,
        generation=info.generation,
        window=None,
        part=None,
        stint=reported,
    )


def _choose_stint(seen: Stint | None, reported: Stint | None) -> Stint | None:
    """Return the one with the later horizon: the cursor may lie after the other one."""
    if seen is None or reported is None:
        return seen or reported
    return seen if reported.horizon < seen.horizon else reported


def merge_losses(state: SlaveState, info: SlaveInfo, *, continues: bool) -> tuple[NotedLoss, ...]:
    """Return the losses of a slave, with those that it reports now.

    ``continues``: the slave's store is the one that was synced, or a later state of it. A loss that
    lies before the cursor is then acknowledged at once, because the master has these webhooks. A
    loss that is no longer reported, because its records can be read again, is dropped; unless
    another one covers its time, to which the store has added it.
    """
    known = {loss.id: loss for loss in state.losses}
    reported = {loss.id for loss in info.losses}
    cursor = (state.cursor or 0) if continues else 0
    losses = [
        loss
        for loss in state.losses
        if loss.id in reported or (loss.acknowledged is None and not (loss.reported and continues))
    ]
    dropped = [loss for loss in find_open_losses(state.losses) if loss not in losses]
    for loss in info.losses:
        if loss.id not in known:
            passed = loss.end is not None and loss.end <= cursor
            covered = passed and not any(_contains(loss, other) for other in dropped)
            losses.append(_note(loss, cursor, info.now, covered=covered))
    if not continues and info.stint and not info.ephemeral:
        losses.append(_note_return(state, info))
    return _bound(losses)


def _contains(loss: Loss, other: Loss) -> bool:
    if None in (loss.start, loss.end, other.start, other.end):
        return loss.start == other.start and loss.end == other.end
    return (loss.start or 0) <= (other.start or 0) and (other.end or 0) <= (loss.end or 0)


def _note(loss: Loss, cursor: Milliseconds, now: Milliseconds, *, covered: bool) -> NotedLoss:
    """Return a loss as reported, from the cursor on; acknowledged if the cursor is after it."""
    start = loss.start
    if start is not None and not covered:
        start = max(start, cursor)
    acknowledged = now if covered else None
    return NotedLoss(loss.id, loss.name, loss.reason, start, loss.end, now, acknowledged)


def _note_return(state: SlaveState, info: SlaveInfo) -> NotedLoss:
    """Return the loss of a slave that came back with another or an earlier store.

    It ends a span after the current time: the clock of the slave may have been ahead.
    """
    start = state.cursor or 0
    return NotedLoss(
        make_loss_id(state.store, info.store, info.stint),
        info.store,
        EARLIER_STORE if info.store == state.store else ANOTHER_STORE,
        start,
        max(start, info.now) + info.span,
        info.now,
        reported=False,
    )


def make_loss_id(*parts: object) -> str:
    """Return an id that is the same for the same parts."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def add_loss(losses: Sequence[NotedLoss], loss: NotedLoss) -> tuple[NotedLoss, ...]:
    """Return the losses with one more; see :func:`_bound`."""
    return _bound([*losses, loss])


def _bound(losses: list[NotedLoss]) -> tuple[NotedLoss, ...]:
    """Return at most :data:`MAX_LOSSES`: beyond that, those acknowledged go first.

    The oldest of the others are joined, so that no loss is forgotten.
    """
    excess = len(losses) - MAX_LOSSES
    if excess <= 0:
        return tuple(losses)
    spare = [loss for loss in losses if loss.acknowledged is not None][:excess]
    kept = [loss for loss in losses if loss not in spare]
    while len(kept) > MAX_LOSSES:
        first, second, *rest = kept
        kept = [_join(first, second), *rest]
    return tuple(kept)


def _join(first: NotedLoss, second: NotedLoss) -> NotedLoss:
    start = end = None
    if first.start is not None and second.start is not None:
        start = min(first.start, second.start)
    if first.end is not None and second.end is not None:
        end = max(first.end, second.end)
    return NotedLoss(
        second.id, second.name, second.reason, start, end, second.noted, reported=False
    )


def find_open_losses(losses: Iterable[NotedLoss]) -> list[NotedLoss]:
    """Return the losses that no operator has acknowledged."""
    return [loss for loss in losses if loss.acknowledged is None]


def describe_losses(losses: Sequence[NotedLoss]) -> str:
    """Return one sentence for people about losses, of which there is at least one."""
    more = f" and {len(losses) - 1} more" if len(losses) > 1 else ""
    return (
        f"acknowledged webhooks may be lost: {describe_loss(losses[0])}{more}. See "
        "“webhook-sync losses list”"
    )


def describe_loss(loss: Loss) -> str:
    """Return the name, the reason and the window of a loss."""
    return f"{loss.name}: {loss.reason} ({format_moment(loss.start)} to {format_moment(loss.end)})"


def format_moment(milliseconds: Milliseconds | None) -> str:
    if milliseconds is None:
        return "unknown"
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # beyond the calendar
        return f"{milliseconds} ms"


def acknowledge_losses(state: SlaveState, id_: str, now: Milliseconds) -> SlaveState | None:
    """Return the state with the loss of this id acknowledged; None if there is no such loss.

    The report of the last sync no longer warns of it.
    """
    if all(loss.id != id_ for loss in state.losses):
        return None
    losses = tuple(
        structs.replace(loss, acknowledged=now)
        if loss.id == id_ and loss.acknowledged is None
        else loss
        for loss in state.losses
    )
    report, rest = dict(state.report), find_open_losses(losses)
    if report.get("warning_type") == LOSSES_WARNING:
        report["losses"] = len(rest)
        report["warning"] = describe_losses(rest) if rest else ""
        report["warning_type"] = LOSSES_WARNING if rest else ""
    return replace(state, losses=losses, report=report)


class SeenSlave(Protocol):
    """A slave as a master knows it: a state, or the document of one."""

    @property
    def cursor(self) -> Milliseconds | None: ...

    @property
    def store(self) -> str: ...

    @property
    def losses(self) -> Sequence[NotedLoss]: ...


def find_loss_problems(known: SeenSlave, info: SlaveInfo) -> list[str]:
    """Return, for people, why a slave is not complete although nothing in it is missing.

    ``info``: how the slave describes itself now, which the master may not have seen yet.
    """
    problems = []
    if known.store and not info.ephemeral:
        if info.store != known.store:
            problems.append(f"{ANOTHER_STORE} than the one that the master has synced")
        elif info.continues is False:
            problems.append(EARLIER_STORE)
    seen = {loss.id for loss in known.losses}
    new = [
        loss
        for loss in info.losses
        if loss.id not in seen and not (loss.end is not None and loss.end <= (known.cursor or 0))
    ]
    return problems + [describe_loss(loss) for loss in (*find_open_losses(known.losses), *new)]
