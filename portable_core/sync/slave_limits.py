"""How much of one sync a slave may use, and the sentences of its report about that."""

from __future__ import annotations

from typing import NamedTuple

LIMIT_REACHED = "a limit of this sync was reached; the next one continues"

LIMIT_TOO_LOW = (
    "Limit reached: nothing could be saved within SYNC_SLAVE_S, SYNC_SLAVE_RECORDS and "
    "SYNC_SLAVE_BYTES (or SYNC_BUDGET_S); the slave is too slow, or they are too low"
)

COLLISIONS = (
    "some {count:.0f} of the webhooks that were compared share their hash with another one by "
    "chance; one of them is not recovered if only the slave has it. Use HASH=blake2b"
)


class SlaveLimits(NamedTuple):
    """How much of one sync a slave may use. ``deadline`` is a reading of ``Clock.monotonic``.

    ``whole_turn``: the deadline leaves the slave its full time, not the rest of the sync's budget.
    """

    deadline: float
    records: int
    bytes: int
    whole_turn: bool
