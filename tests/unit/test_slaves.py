"""Slaves that leave ``SLAVES``, come back under another name, or are forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.epochs import NotedLoss
from portable_core.errors import Conflict, NotFound
from portable_core.ports import SlaveState
from portable_core.sync.floor import read_floor
from portable_core.sync.report import read_report
from tests.unit.test_master_retention import Rig

LOSS = NotedLoss("1f", "file", "it is damaged", 1, 2, reported=False)


@pytest.fixture
def rig() -> Rig:
    return Rig(MemoryStore())


def rename(rig: Rig, old: str, new: str) -> None:
    """Restart the master with another name for the same slave."""
    rig.slaves[new] = rig.slaves.pop(old)
    rig.start_master()


def save(rig: Rig, name: str, state: SlaveState) -> None:
    lease = rig.store.acquire_lease("test", rig.clock.now(), 1000)
    rig.store.save_slave(lease, name, state)
    rig.store.release_lease(lease)


def test_a_renamed_slave_continues_where_it_was(rig: Rig) -> None:
    rig.receive(12)
    rig.sync()
    before = rig.store.slave_states()["a"]
    save(rig, "a", replace(before, losses=(LOSS,)))
    assert read_floor(rig.store) > 0
    rename(rig, "a", "b")
    new = rig.receive(1, at="b")
    report = rig.sync()["b"]
    assert (report.saved, report.represented, report.error) == (2, 0, "")
    states = rig.store.slave_states()
    assert set(states) == {"b"}
    after = states["b"]
    # Compared from the cursor on: nothing from before the floor is a loss, and a loss stays.
    assert after.losses == (LOSS,)
    assert after.store == before.store
    assert before.cursor is not None
    assert after.cursor is not None
    assert after.cursor > before.cursor
    assert report.windows <= 2
    assert {hour.hour for hour in read_report(before).day} <= {
        hour.hour for hour in read_report(after).day
    }
    assert set(new) <= set(rig.read())


def test_another_store_is_another_slave(rig: Rig) -> None:
    rig.receive(1)
    rig.sync()
    gone = rig.store.slave_states()["a"]
    rig.remove_slave("a")
    rig.add_slave("b")
    rig.receive(1, at="b")
    assert rig.sync()["b"].saved == 2
    states = rig.store.slave_states()
    assert states["a"] == gone
    assert states["b"].store != gone.store


def test_the_state_of_a_configured_slave_is_never_moved(rig: Rig) -> None:
    rig.receive(1)
    rig.sync()
    rig.slaves["b"] = rig.slaves["a"]  # two names for one slave
    rig.start_master()
    rig.sync()
    assert set(rig.store.slave_states()) == {"a", "b"}


def test_a_renamed_slave_that_was_away_at_first_continues_too(rig: Rig) -> None:
    rig.receive(1)
    rig.sync()
    before = rig.store.slave_states()["a"]
    rename(rig, "a", "b")
    save(rig, "b", SlaveState(report={"error": "silence"}))
    rig.sync()
    assert set(rig.store.slave_states()) == {"b"}
    assert rig.store.slave_states()["b"].store == before.store


def test_a_slave_is_forgotten_once_it_has_left(rig: Rig) -> None:
    sent = rig.receive(1)
    rig.sync()
    with pytest.raises(Conflict, match="'a' is in SLAVES"):
        rig.master.slaves.forget("a")
    with pytest.raises(NotFound, match="no slave has the name 'b'"):
        rig.master.slaves.forget("b")
    rig.remove_slave("a")
    save(rig, "a", replace(rig.store.slave_states()["a"], losses=(LOSS,)))
    with pytest.raises(Conflict, match="losses acknowledge a --all"):
        rig.master.slaves.forget("a")
    rig.master.losses.acknowledge("a", LOSS.id)
    rig.master.slaves.forget("a")
    assert rig.store.slave_states() == {}
    assert rig.read() == sent
