"""The contract of ``MasterState``, for every store: leases, slaves' states, the quarantine."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from portable_core.epochs import NotedLoss, Stint
from portable_core.errors import LeaseHeld, LeaseLost
from portable_core.ports import Lease, MasterStore, PartState, Quarantined, SlaveState
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import NOON, make_record, make_records
from tests.support.stores.stores import ALGORITHM, SHORT, Place, let_expire

TTL = 30_000
ALL = (0, MAX_INTEGER + 1)


def make_item(number: int, at: int = NOON) -> Quarantined:
    return Quarantined(
        f"id-{number}", "slave-1", at + number, "wrong hash", make_record(at, number)
    )


def test_a_lease_excludes_every_other(store: MasterStore) -> None:
    lease = store.acquire_lease("a", NOON, TTL)
    assert lease == Lease(lease.token, "a", NOON + TTL)
    for holder in ("a", "b"):
        with pytest.raises(LeaseHeld):
            store.acquire_lease(holder, NOON + TTL - 1, TTL)


def test_an_expired_lease_can_be_acquired(store: MasterStore) -> None:
    old = store.acquire_lease("a", NOON, SHORT)
    let_expire(store)
    new = store.acquire_lease("b", NOON + SHORT, TTL)
    assert new.token > old.token
    with pytest.raises(LeaseLost):
        store.renew_lease(old, NOON + TTL, TTL)
    with pytest.raises(LeaseHeld):
        store.acquire_lease("a", NOON + TTL, TTL)


def test_a_renewed_lease_stays_valid(store: MasterStore) -> None:
    lease = store.acquire_lease("a", NOON, TTL)
    renewed = store.renew_lease(lease, NOON + TTL - 1, TTL)
    assert renewed == Lease(lease.token, "a", NOON + 2 * TTL - 1)
    with pytest.raises(LeaseHeld):
        store.acquire_lease("b", NOON + TTL, TTL)
    store.save_slave(lease, "s", SlaveState(cursor=1))
    store.save_slave(renewed, "s", SlaveState(cursor=2))
    assert store.slave_states()["s"].cursor == 2


def test_a_released_lease_is_free_at_once(store: MasterStore) -> None:
    old = store.acquire_lease("a", NOON, TTL)
    store.release_lease(old)
    new = store.acquire_lease("b", NOON, TTL)
    assert new.token > old.token
    store.release_lease(old)
    with pytest.raises(LeaseHeld):
        store.acquire_lease("a", NOON, TTL)


def test_a_lost_lease_writes_nothing(store: MasterStore) -> None:
    old = store.acquire_lease("a", NOON, SHORT)
    store.save_slave(old, "s", SlaveState(cursor=1))
    store.save_quarantine(old, [make_item(1)])
    let_expire(store)
    new = store.acquire_lease("b", NOON + SHORT, TTL)
    with pytest.raises(LeaseLost):
        store.save_records(old, make_records(5))
    with pytest.raises(LeaseLost):
        store.save_slave(old, "s", SlaveState(cursor=2))
    with pytest.raises(LeaseLost):
        store.save_slave(old, "t", SlaveState())
    with pytest.raises(LeaseLost):
        store.save_quarantine(old, [make_item(2)])
    assert list(store.pairs(*ALL)) == []
    assert store.slave_states() == {"s": SlaveState(cursor=1)}
    assert list(store.quarantine()) == [make_item(1)]
    store.save_records(new, make_records(5))
    store.save_slave(new, "s", SlaveState(cursor=2))
    assert len(list(store.pairs(*ALL))) == 5
    assert store.slave_states() == {"s": SlaveState(cursor=2)}


def test_leases_survive_a_restart(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    lease = store.acquire_lease("a", NOON, SHORT)
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    if store.shared:  # the other process may live
        with pytest.raises(LeaseHeld):
            store.acquire_lease("b", NOON + 1, SHORT)
        store.save_slave(lease, "s", SlaveState(cursor=1))
    else:
        with pytest.raises(LeaseLost):
            store.save_slave(lease, "s", SlaveState(cursor=1))
    let_expire(store)
    new = store.acquire_lease("b", NOON + TTL, TTL)
    assert new.token > lease.token
    store.release_lease(new)
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    newest = store.acquire_lease("c", NOON, TTL)
    assert newest.token > new.token
    for lost in (lease, new):
        with pytest.raises(LeaseLost):
            store.save_records(lost, make_records(1))
    store.close()


def test_a_wrong_date_of_a_holder_does_not_keep_the_lease(place: Place) -> None:
    """The holder was killed while its clock was a year ahead."""
    year = 365 * 86_400_000
    store = place.connect()
    store.open(ALGORITHM)
    old = store.acquire_lease("a", NOON + year, 300)
    if store.shared:
        with pytest.raises(LeaseHeld):
            store.acquire_lease("b", NOON, 300)
        time.sleep(0.5)
    else:
        store.close()
        store = place.connect()
        store.open(ALGORITHM)
    new = store.acquire_lease("b", NOON, TTL)
    assert new.token > old.token
    with pytest.raises(LeaseLost):
        store.save_slave(old, "s", SlaveState())
    with pytest.raises(LeaseHeld):
        store.acquire_lease("c", NOON, TTL)
    store.close()


def test_only_one_of_many_threads_gets_the_lease(store: MasterStore) -> None:
    barrier = threading.Barrier(8)

    def acquire(holder: str) -> Lease:
        barrier.wait()
        return store.acquire_lease(holder, NOON, TTL)

    with ThreadPoolExecutor(8) as executor:
        tries = [executor.submit(acquire, f"holder-{i}") for i in range(8)]
    errors = [attempt.exception() for attempt in tries]
    assert errors.count(None) == 1
    assert sum(isinstance(error, LeaseHeld) for error in errors) == 7


def test_records_saved_under_a_lease_are_records(store: MasterStore) -> None:
    lease = store.acquire_lease("a", NOON, TTL)
    records = make_records(30)
    store.append(records[:10])
    store.save_records(lease, records[5:])
    store.save_records(lease, [])
    assert list(store.records(*ALL)) == records


def test_states_of_slaves(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    assert store.slave_states() == {}
    lease = store.acquire_lease("a", NOON, TTL)
    report = {"sent": 3, "error": None, "windows": [{"start": 1.5, "text": "\u2603"}], "ok": True}
    states = {
        "slave-1": SlaveState(NOON, "3f", 7, 60_000, report),
        "slave.2": SlaveState(),
        "slave_3": SlaveState(0, "", MAX_INTEGER, None, {}),
        "slave-4": SlaveState(5, "3f", 1, 1, {}, PartState(5, MAX_INTEGER, 2**53, 1, 7)),
    }
    for name, state in states.items():
        store.save_slave(lease, name, state)
    assert store.slave_states() == states
    states["slave-1"] = SlaveState(NOON - 5, "4a", 8, 1, {"again": [1, 2]})
    states["slave-4"] = SlaveState(9, "3f", 1, 1)
    for name in ("slave-1", "slave-4"):
        store.save_slave(lease, name, states[name])
    del states["slave.2"]
    store.save_slave(lease, "slave.2", None)
    store.save_slave(lease, "never-known", None)
    assert store.slave_states() == states
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert store.slave_states() == states
    store.close()


def test_the_quarantine(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    assert list(store.quarantine()) == []
    lease = store.acquire_lease("a", NOON, TTL)
    items = [make_item(number) for number in range(20)]
    store.save_quarantine(lease, items[10:])
    store.save_quarantine(lease, items[:15])
    store.save_quarantine(lease, [])
    assert list(store.quarantine()) == items
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert list(store.quarantine()) == items
    assert list(store.pairs(*ALL)) == []
    store.close()


def test_a_large_record_fits_into_the_quarantine(store: MasterStore) -> None:
    lease = store.acquire_lease("a", NOON, TTL)
    large = Quarantined("id", "slave-1", NOON, "too large", make_record(NOON, 1, bytes(3_000_000)))
    store.save_quarantine(lease, [large])
    assert list(store.quarantine()) == [large]


def test_the_stint_and_the_losses_of_a_slave_are_kept(store: MasterStore) -> None:
    losses = (
        NotedLoss("1f", "a file", "it is “damaged”", 5, None, 7, 9, reported=False),
        NotedLoss("2e", "gap", "removed", 5, MAX_INTEGER, 8),
    )
    lease = store.acquire_lease("a", NOON, TTL)
    state = SlaveState(1, "store", 1, stint=Stint("a" * 32, MAX_INTEGER), losses=losses)
    store.save_slave(lease, "s", state)
    assert store.slave_states() == {"s": state}
    store.save_slave(lease, "s", SlaveState(cursor=2))
    assert store.slave_states() == {"s": SlaveState(cursor=2)}
