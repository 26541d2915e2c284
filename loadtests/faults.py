"""The plan of a chaos run: which fault, where, when, for how long. Pure; one seed, one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

#: The nodes of a chaos run and what is special about each; see :mod:`loadtests.fault_nodes`.
MASTER, FUNCTION, CONTAINER, FIRESTORE = "master", "slave-1", "slave-2", "slave-3"
NODES = (MASTER, FUNCTION, CONTAINER, FIRESTORE)
SLAVES = NODES[1:]


class FaultKind(NamedTuple):
    """One row of the table: where it may happen, how long it lasts, its amount (low, high)."""

    targets: Sequence[str]
    seconds: tuple[float, float]
    amount: tuple[int, int] = (0, 0)


#: All kinds of faults. A slave's damaged file is put back after ``seconds``; the master's is not.
#: ``amount`` is bytes, bytes a second or milliseconds, as the kind says.
#:
#: Clocks stay within what is promised: ``clock`` is less than a quarter of the span wrong;
#: ``clock-far`` is more than half of it, for less than a span: the slave does not use it, unless it
#: starts meanwhile. Then it is less than the whole span, which bounds the difference of the
#: timestamps of two nodes.
KINDS: Mapping[str, FaultKind] = {
    "sigkill": FaultKind(NODES, (0.5, 2.5)),
    "sigterm": FaultKind((MASTER, FUNCTION, CONTAINER, FIRESTORE), (0.5, 2.0)),
    "freeze": FaultKind(NODES, (1.0, 4.0)),
    "reset": FaultKind(NODES, (0.5, 2.0)),
    "cut-answer": FaultKind(NODES, (1.0, 3.0), (1, 120)),
    "cut-sync": FaultKind(SLAVES, (2.0, 5.0), (50, 60_000)),
    "slow": FaultKind(NODES, (2.0, 4.0), (4_000, 60_000)),
    "half-open": FaultKind(NODES, (1.5, 4.0)),
    "half-open-sync": FaultKind(SLAVES, (2.0, 4.0)),
    "full-disk": FaultKind((MASTER, CONTAINER), (1.0, 4.0)),
    "damaged-file": FaultKind((MASTER, FUNCTION, CONTAINER), (2.0, 6.0)),
    "clock": FaultKind((CONTAINER,), (3.0, 5.0), (-2_500, 2_500)),
    "clock-far": FaultKind((CONTAINER,), (3.0, 5.0), (9_000, 12_000)),
    "firestore-gone": FaultKind((FIRESTORE,), (1.5, 4.0)),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``at`` and ``seconds`` are seconds from the start of the load; ``amount`` see the kinds."""

    number: int
    kind: str
    target: str
    at: float
    seconds: float
    amount: int = 0

    def __str__(self) -> str:
        amount = f" {self.amount}" if self.amount else ""
        return f"#{self.number:02d} {self.at:6.1f} s  {self.kind}{amount} at {self.target}"


def make_plan(
    seed: int,
    count: int,
    seconds: float,
    kinds: Sequence[str] = tuple(KINDS),
) -> list[Fault]:
    """``count`` faults over ``seconds``, the kinds in turn, in an order of the seed.

    A node has one fault at a time; several nodes may have theirs at once. The last fifth of the
    time begins no fault.
    """
    random = Random(f"faults {seed}")
    names = [kinds[number % len(kinds)] for number in range(count)]
    random.shuffle(names)
    free = dict.fromkeys(NODES, 0.0)
    pace = seconds * 0.8 / max(1, count)
    plan: list[Fault] = []
    for number, name in enumerate(names, 1):
        kind = KINDS[name]
        moment = pace * (number - 1) + random.uniform(0, pace) + 2.0
        target = min(random.sample(list(kind.targets), len(kind.targets)), key=free.__getitem__)
        at = max(moment, free[target])
        lasts = random.uniform(*kind.seconds)
        # A node needs a moment to start again before the next accident.
        free[target] = at + lasts + 3.0
        low, high = kind.amount
        amount = random.randint(low, high)
        plan.append(Fault(number, name, target, round(at, 2), round(lasts, 2), amount))
    return sorted(plan, key=lambda fault: fault.at)
