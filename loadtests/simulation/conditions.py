"""What a history is made of: its nodes, and which accidents it has and how often, drawn at once.

Some histories have every kind of accident, some a single one again and again, so that none hides
behind another; and some have a theme, for the accidents that need company to do harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from loadtests.simulation.network import NEVER, NetworkFault
from loadtests.simulation.process_store import Accident
from portable_core.ports import Milliseconds
from portable_core.sync.reconcile import MAX_HELD
from portable_core.wire.negotiation import ENCODINGS

SPAN_MS = 60_000

_ACCIDENTS = tuple(accident for accident in Accident if accident is not Accident.NONE)

#: How many processes a node has, and whether its senders get 200 before the commit.
NodeKind = tuple[int, bool]

_NODE_KINDS: tuple[NodeKind, ...] = ((1, False), (1, False), (1, True), (2, False))

#: Events by the names of their methods (:mod:`.events`), and how likely they are beside each other.
Weights = dict[str, float]

_ALWAYS: Weights = {"send": 6.0, "wait": 6.0, "flush": 5.0, "sync": 4.0}

_SOMETIMES = (
    "restart",
    "resolve_doubt",
    "stop_for_long",
    "step_clock",
    "jump_clock",
    "damage",
    "mend",
    "damage_master",
    "lose_disk",
    "copy",
    "restore",
    "clone",
    "copy_master",
    "restore_master",
    "corrupt",
    "retain",
    "hand_over",
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """``accidents``: the share of writes that have one; ``faults``: of exchanges.

    ``reach_master``: the share of webhooks that are sent to the master too, as to any other node.
    ``calm``: in the middle of a sync the world moves on after at most so many steps of it.
    ``max_held``: how many hashes a slave can hold.
    ``limited``: a slave whose answers a platform ends after so many bytes, and whether cleanly.
    """

    nodes: Mapping[str, NodeKind]
    speaks: Mapping[str, tuple[str, ...]]
    env: Mapping[str, str]
    accidents: float
    accident_kinds: tuple[Accident, ...]
    faults: float
    calm: float
    forgeries: float
    reach_master: float
    longest_delay: Milliseconds
    limited: tuple[str, int, bool]
    weights: Weights
    max_held: int

    def pick_accident(self, random: Random) -> Accident:
        """What happens to one write."""
        if random.random() >= self.accidents:
            return Accident.NONE
        return random.choice(self.accident_kinds)

    def pick_fault(self, random: Random, slave: str) -> NetworkFault | None:
        """What the network does to one exchange; None for nothing out of the ordinary."""
        if random.random() >= self.faults:
            return None
        kind = random.randrange(4)
        cut = int(10 ** random.uniform(0, 3.7))
        plain = self.make_plain_fault(random, slave)
        return replace(
            plain,
            unreachable=kind == 0,
            request_cut=cut if kind == 1 else NEVER,
            request_clean=random.random() < 0.5,
            answer_cut=min(plain.answer_cut, cut if kind == 2 else NEVER),
            answer_clean=random.random() < 0.5,
        )

    def make_plain_fault(self, random: Random, slave: str) -> NetworkFault:
        """What the network does to any exchange."""
        chunk = random.choice((1, 16, 16, 64, 64, 1024, 1024, 65536))
        limited, limit, clean = self.limited
        if slave != limited:
            return NetworkFault(chunk=chunk)
        return NetworkFault(chunk=chunk, answer_cut=limit, answer_clean=clean)


def draw_conditions(random: Random, theme: str | None = None) -> Conditions:
    """The conditions of one history; ``theme`` is one of :data:`THEMES`, and else drawn too."""
    slaves = [f"slave-{number}" for number in range(random.randint(2, 4))]
    encodings = tuple(ENCODINGS)
    drawn = Conditions(
        nodes={name: random.choice(_NODE_KINDS) for name in ("master", *slaves)},
        speaks={name: random.choice((encodings, encodings, encodings[1:])) for name in slaves},
        env={
            "SYNC_WINDOW_PAIRS": random.choice(("10", "50", "100000")),
            "SYNC_WINDOW_S": random.choice(("60", "600", "86400")),
            "SYNC_SLAVE_RECORDS": random.choice(("5", "100000", "100000")),
            "RETENTION_S": random.choice(("1", "60", "86400")),
        },
        accidents=random.choice((0.0, 0.01, 0.05, 0.2)),
        accident_kinds=tuple(random.sample(_ACCIDENTS, random.choice((1, 1, 2, len(_ACCIDENTS))))),
        faults=random.choice((0.0, 0.1, 0.4)),
        calm=random.choice((math.inf, 300.0, 30.0)),
        forgeries=random.choice((0.0, 0.0, 0.2)),
        reach_master=random.choice((1.0, 1.0, 0.5)),
        longest_delay=random.choice((100, SPAN_MS // 4, SPAN_MS // 2, SPAN_MS)),
        limited=(
            random.choice([*slaves, "", ""]),
            random.randrange(600, 3000),
            random.random() < 0.5,
        ),
        weights=_draw_weights(random),
        max_held=random.choice((5, MAX_HELD, MAX_HELD)),
    )
    return THEMES[theme or random.choice((*("any",) * 7, *THEMES))](drawn)


def _draw_weights(random: Random) -> Weights:
    share = random.choice((0.1, 0.3, 0.6))
    return _ALWAYS | {
        event: random.choice((0.3, 1.0, 3.0)) for event in _SOMETIMES if random.random() < share
    }


# -- themes ----------------------------------------------------------------------------------------


def _leave(drawn: Conditions) -> Conditions:
    return drawn


def _two_masters(drawn: Conditions) -> Conditions:
    """Two processes on one master's database, and a hand-over now and then, at the same time."""
    return replace(
        drawn,
        nodes={**drawn.nodes, "master": (2, False)},
        calm=10.0,
        reach_master=0.0,
        longest_delay=100,
        weights={**_ALWAYS, "wait": 9.0, "hand_over": 1.0},
    )


def _retention(drawn: Conditions) -> Conditions:
    """Slaves that forget as soon as they may; what was lost comes back, also within a sync."""
    return replace(
        drawn,
        env={**drawn.env, "RETENTION_S": "1", "SYNC_WINDOW_S": "60"},
        calm=10.0,
        reach_master=0.5,
        weights={**_ALWAYS, "retain": 3.0, "damage": 2.0, "mend": 1.0, "copy": 0.3, "restore": 0.3},
    )


def _several_writers(drawn: Conditions) -> Conditions:
    """Two processes on every node, whose clocks are set again and again."""
    return replace(
        drawn,
        nodes=dict.fromkeys(drawn.nodes, (2, False)),
        weights={**_ALWAYS, "step_clock": 2.0, "jump_clock": 2.0},
    )


def _doubt(drawn: Conditions) -> Conditions:
    """Writes that fail, and are there some time after all."""
    return replace(
        drawn,
        nodes={name: (1, buffered) for name, (_, buffered) in drawn.nodes.items()},
        accidents=0.2,
        accident_kinds=(Accident.FAIL_LATE,),
        weights={**_ALWAYS, "resolve_doubt": 2.0, "restart": 0.3},
    )


def _parts(drawn: Conditions) -> Conditions:
    """Windows that are compared by parts, at a master that loses records between them."""
    return replace(
        drawn,
        env={**drawn.env, "SYNC_WINDOW_PAIRS": "10", "SYNC_SLAVE_RECORDS": "5"},
        faults=0.3,
        max_held=5,
        weights={**_ALWAYS, "damage_master": 2.0, "mend": 0.3},
    )


def _restored_disks(drawn: Conditions) -> Conditions:
    """Disks that are copied and put back, of slaves and of the master, also within a sync."""
    return replace(
        drawn,
        env={**drawn.env, "RETENTION_S": "1", "SYNC_WINDOW_S": "60"},
        calm=10.0,
        reach_master=0.3,
        weights={
            **_ALWAYS,
            "restart": 1.0,
            "retain": 2.0,
            "copy": 0.5,
            "clone": 1.0,
            "restore": 1.5,
            "copy_master": 0.5,
            "restore_master": 0.5,
        },
    )


def _clocks(drawn: Conditions) -> Conditions:
    """Clocks that are wrong for a moment, crashes meanwhile, and senders that repeat themselves."""
    return replace(
        drawn,
        nodes={name: (1, buffered) for name, (_, buffered) in drawn.nodes.items()},
        forgeries=0.0,
        weights={
            **_ALWAYS,
            "glitch_clock": 2.0,
            "repeat_one": 0.2,
            "start_wrong": 0.5,
            "repair": 0.3,
            "jump_clock": 0.2,
        },
    )


#: What changes the drawn conditions, by name.
THEMES: Mapping[str, Callable[[Conditions], Conditions]] = {
    "any": _leave,
    "two masters": _two_masters,
    "retention": _retention,
    "several writers": _several_writers,
    "doubt": _doubt,
    "parts": _parts,
    "restored disks": _restored_disks,
    "clocks": _clocks,
}
