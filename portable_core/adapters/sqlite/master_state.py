"""The master's state in ``state.sqlite3``: leases and slaves' states."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from portable_core.adapters.sqlite.state import State
from portable_core.epochs import NotedLoss, Stint
from portable_core.errors import LeaseHeld, LeaseLost
from portable_core.ports import ConsumerState, Lease, Milliseconds, PartState, SlaveState

#: The name of the consumers in the state's section ``store``. An older version ignores names in
#: this section that it does not know.
_CONSUMERS = "consumers"


class SqliteMasterState:
    """``MasterState`` without the records and the quarantine. Safe to use from any thread.

    One lock covers three things: comparing a lease, the write under that lease, and acquiring a new
    lease. Every ``until`` is a time of ``time.monotonic()``.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        #: The end of this process's lease by a clock that the date does not move.
        self._expires_at = float("inf")

    def acquire_lease(
        self, holder: str, now: Milliseconds, ttl: Milliseconds, until: float
    ) -> Lease:
        with self._state.writing(until):
            held = self._state.lease()
            if now < held.expires and time.monotonic() < self._expires_at:
                raise LeaseHeld(f"{held.holder} is syncing. Try again when that sync has ended.")
            return self._save_lease(Lease(held.token + 1, holder, now + ttl), ttl, until)

    def renew_lease(
        self, lease: Lease, now: Milliseconds, ttl: Milliseconds, until: float
    ) -> Lease:
        with self._state.writing(until):
            self.check_lease(lease)
            return self._save_lease(Lease(lease.token, lease.holder, now + ttl), ttl, until)

    def release_lease(self, lease: Lease, until: float) -> None:
        with self._state.writing(until):
            if self._state.lease().token == lease.token:
                self._save_lease(Lease(lease.token + 1, "", 0), 0, until)

    def end_lease(self, until: float) -> None:
        """End the lease of an earlier process; to be called under the lock of the folder."""
        with self._state.writing(until):
            held = self._state.lease()
            if held.holder:
                self._save_lease(Lease(held.token + 1, "", 0), 0, until)

    def _save_lease(self, lease: Lease, ttl: Milliseconds, until: float) -> Lease:
        self._state.commit({("store", "lease"): [lease.token, lease.holder, lease.expires]}, until)
        self._expires_at = time.monotonic() + ttl / 1000
        return lease

    def check_lease(self, lease: Lease) -> None:
        if self._state.lease().token != lease.token:
            raise LeaseLost(
                "this sync lost its lease; nothing was written. The next sync continues."
            )

    def slave_states(self) -> dict[str, SlaveState]:
        return {name: _decode_slave(slave) for name, slave in self._state.slaves().items()}

    def save_slave(self, lease: Lease, name: str, state: SlaveState | None, until: float) -> None:
        with self._state.writing(until):
            self.check_lease(lease)
            value = None if state is None else _encode_slave(state)
            self._state.commit_with_files({("slave", name): value}, until)

    def consumers(self) -> dict[str, ConsumerState]:
        saved = self._state.values["store"].get(_CONSUMERS, {})
        return {name: ConsumerState(*state) for name, state in saved.items()}

    def save_consumer(self, name: str, state: ConsumerState | None, until: float) -> None:
        with self._state.writing(until):
            saved = dict(self._state.values["store"].get(_CONSUMERS, {}))
            saved.pop(name, None)
            if state is not None:
                saved[name] = [state.position, state.saved]
            self._state.commit({("store", _CONSUMERS): saved}, until)


def _encode_slave(state: SlaveState) -> dict[str, object]:
    value: dict[str, object] = {
        "cursor": state.cursor,
        "store": state.store,
        "generation": state.generation,
        "window": state.window,
        "report": dict(state.report),
    }
    if state.part is not None:
        value["part"] = list(state.part)
    if state.stint is not None:
        value["stint"] = list(state.stint)
    if state.losses:
        value["losses"] = msgspec.to_builtins(state.losses)
    return value


def _decode_slave(value: Mapping[str, Any]) -> SlaveState:
    """Return the saved state of a slave; members of newer releases are ignored."""
    part, stint = value.get("part"), value.get("stint")
    return SlaveState(
        value["cursor"],
        value["store"],
        value["generation"],
        value["window"],
        value["report"],
        None if part is None else PartState(*part),
        None if stint is None else Stint(*stint),
        msgspec.convert(value.get("losses", ()), tuple[NotedLoss, ...]),
    )
