"""The ports of a node: its store, the master's state, a client of a slave, a clock.

Each port is small, and every implementation under ``adapters/`` passes the same contract suite
(``tests/contract/``). An implementation translates its errors into those of
:mod:`portable_core.errors`; a port raises no other exception.
"""

from __future__ import annotations

from typing import Protocol

from portable_core.ports.arrivals import (
    BEGINNING,
    Arrival,
    ArrivalOrder,
    ConsumerState,
    ConsumerStates,
)
from portable_core.ports.clock import Clock
from portable_core.ports.delivery_log import Delivery, DeliveryLog, LogEntry, LogListing
from portable_core.ports.erasing import Erasing, Tombstone
from portable_core.ports.master_state import (
    Lease,
    MasterState,
    PartState,
    Quarantined,
    QuarantineEntry,
    SlaveState,
)
from portable_core.ports.removal import Removal
from portable_core.ports.search_index import Candidates, SearchIndex, SourceVolume
from portable_core.ports.slave_client import (
    KeepWaiting,
    SlaveClient,
    SlaveInfo,
    SyncAnswer,
    SyncRequest,
    wait_on,
)
from portable_core.ports.store import (
    GAP_REASON,
    Damage,
    QuarantineSize,
    Store,
    StoreInfo,
    StoreStatus,
)
from portable_core.ports.values import (
    ALL_HASHES,
    MAX_SPAN_MS,
    STINT_PATTERN,
    UUID_PATTERN,
    HashRange,
    Milliseconds,
    StoreEpoch,
)

__all__ = [
    "ALL_HASHES",
    "BEGINNING",
    "GAP_REASON",
    "MAX_SPAN_MS",
    "STINT_PATTERN",
    "UUID_PATTERN",
    "Arrival",
    "ArrivalOrder",
    "Candidates",
    "Clock",
    "ConsumerState",
    "ConsumerStates",
    "Damage",
    "Delivery",
    "DeliveryLog",
    "Erasing",
    "HashRange",
    "KeepWaiting",
    "Lease",
    "LogEntry",
    "LogListing",
    "MasterState",
    "MasterStore",
    "Milliseconds",
    "PartState",
    "QuarantineEntry",
    "QuarantineSize",
    "Quarantined",
    "Removal",
    "SearchIndex",
    "SlaveClient",
    "SlaveInfo",
    "SlaveState",
    "SourceVolume",
    "Store",
    "StoreEpoch",
    "StoreInfo",
    "StoreStatus",
    "SyncAnswer",
    "SyncRequest",
    "Tombstone",
    "wait_on",
]


class MasterStore(Store, MasterState, ArrivalOrder, ConsumerStates, Removal, Protocol):
    """A store that is all of these. Every shipped one is, so that one lease protects all."""
