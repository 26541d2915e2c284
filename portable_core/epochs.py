"""The parts of a store's epoch: stints, which prove that it continues, and losses."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from portable_core.records import Integer

#: The most losses that a slave reports, and that a master keeps for one slave.
MAX_LOSSES = 100

_Text = Annotated[str, msgspec.Meta(max_length=1024)]


class Stint(NamedTuple):
    """A writer's time with a store, and a horizon that it has reported.

    ``id`` is random. The store keeps the largest reported horizon of each stint, and makes it
    durable before it is reported. So a store that has the stint with a horizon at least as large is
    the one that has reported ``horizon``, or a later state of it: every record before ``horizon``
    was in it.
    """

    id: str
    horizon: Integer


class Loss(msgspec.Struct, frozen=True):
    """A part of a slave's store that has lost acknowledged webhooks.

    - ``id``: the same for as long as the loss is the same.
    - ``name``: the file, or another name of the part.
    - ``start`` and ``end``: the times of its records; None if they are unknown.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{1,64}\Z")]
    name: _Text
    reason: _Text
    start: Integer | None = None
    end: Integer | None = None


class NotedLoss(Loss, frozen=True):
    """A loss as a master keeps it.

    - ``noted``: the time at which the master noticed it.
    - ``acknowledged``: the time at which an operator acknowledged it, or at which it turned out
      that the master has these webhooks; None before that.
    - ``reported``: whether the slave reported it; otherwise the master has noticed it by itself.
    """

    noted: Integer = 0
    acknowledged: Integer | None = None
    reported: bool = True
