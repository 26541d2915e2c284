"""What a world is made of: nodes with their processes, and webhooks on their way to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.simulation.disk import Disk
from loadtests.simulation.network import SimulatedClient
from loadtests.simulation.process_store import ProcessStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.outcome import Outcome
from portable_core.ingest.receiver import Receiver
from portable_core.ports import Milliseconds
from portable_core.records import Meta, Pair
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave


@dataclass(frozen=True, slots=True)
class CoreParts:
    """What nodes are made of; a test that takes a rule away puts something else here."""

    disk: Callable[..., Disk] = Disk
    store: Callable[..., ProcessStore] = ProcessStore
    receiver: Callable[..., Receiver] = Receiver
    slave: Callable[..., Slave] = Slave
    master: Callable[..., Master] = Master
    client: Callable[..., SimulatedClient] = SimulatedClient


@dataclass(order=True, slots=True)
class Delivery:
    """One sender's next try to bring one webhook to one node."""

    at: Milliseconds
    number: int
    node: str = field(compare=False)
    payload: bytes = field(compare=False)
    meta: Meta = field(compare=False)
    tries: int = field(compare=False, default=0)


@dataclass(slots=True, eq=False)
class Process:
    """One process of a node; ``offset`` is its clock's error in milliseconds."""

    node: SimulatedNode
    clock: SimulatedClock
    offset: Milliseconds
    store: ProcessStore
    receiver: Receiver
    slave: Slave | None = None
    master: Master | None = None
    waiting: list[tuple[Outcome[Pair], Delivery]] = field(default_factory=list)
    syncing: bool = False
    handing_over: bool = False


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """A place where webhooks arrive: one disk, one process or, where it is shared, several.

    ``buffered``: senders get 200 before the commit.
    """

    name: str
    role: Role
    settings: Settings
    disk: Disk
    buffered: bool = False
    processes: list[Process] = field(default_factory=list)
