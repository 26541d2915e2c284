"""A slave whose disk was restored or replaced: its webhooks are in the master, or named as lost."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.epochs import Stint
from portable_core.errors import SlaveUnreachable
from portable_core.records import Meta
from portable_core.sync.completeness import slave_complete_until
from portable_core.sync.conditions import find_slave_conditions
from portable_core.sync.protocol import parse_stint
from portable_core.sync.resuming import ANOTHER_STORE, EARLIER_STORE, LOSSES_WARNING
from portable_core.sync.slave import Slave
from tests.support.stores.crashes import crash_at
from tests.support.stores.disk_images import DiskImage
from tests.support.stores.disk_rig import SPAN_S, DiskRig, names


@pytest.fixture
def rig(tmp_path: Path) -> DiskRig:
    return DiskRig(tmp_path)


def test_a_clone_that_received_webhooks_takes_the_place_of_the_other(rig: DiskRig) -> None:
    rig.run_and_sync()
    DiskImage.take(rig.disk).put_back(rig.path / "clone")
    own = rig.run(disk=rig.path / "clone")
    rig.run_and_sync()  # the cursor passes the webhooks of the clone
    DiskImage.take(rig.path / "clone").put_back(rig.disk)
    report = rig.run_and_sync(0)
    assert report.saved == len(own)
    assert report.warning_type == LOSSES_WARNING
    assert rig.find_unnamed() == []


def test_a_snapshot_is_put_back(rig: DiskRig, caplog: pytest.LogCaptureFixture) -> None:
    rig.run_and_sync()
    snapshot = DiskImage.take(rig.disk)
    rig.run_and_sync()
    lost = rig.run()  # never synced
    snapshot.put_back(rig.disk)
    with caplog.at_level(logging.WARNING):
        report = rig.run_and_sync()
    assert report.saved == 3
    assert (report.losses, report.warning_type) == (1, LOSSES_WARNING)
    assert "slave s: acknowledged webhooks may be lost" in caplog.text
    (loss,) = rig.read_losses()
    assert loss.reason == EARLIER_STORE
    assert all(names((loss,), pair) for pair in lost)
    assert rig.find_unnamed() == []
    caplog.clear()
    assert rig.run_and_sync().losses == 1  # until it is acknowledged
    assert "may be lost" not in caplog.text


@pytest.mark.parametrize("synced", [True, False])
def test_a_snapshot_of_a_running_slave_is_put_back(rig: DiskRig, *, synced: bool) -> None:
    """The image has write-ahead logs. It may be older or newer than the last report."""
    with rig.slave() as slave:
        rig.receive(slave)
        rig.sync(slave)
        rig.receive(slave)
        snapshot = DiskImage.take(rig.disk)
        kept = rig.receive(slave, 2) if synced else []
        if synced:
            rig.sync(slave)
    snapshot.put_back(rig.disk)
    report = rig.run_and_sync()
    assert report.losses == (1 if synced else 0)
    assert report.saved == (3 if synced else 6)
    assert len(kept) == (2 if synced else 0)
    assert rig.find_unnamed() == []


def test_two_clones_of_one_parent_take_turns(rig: DiskRig) -> None:
    rig.run_and_sync()
    parent = DiskImage.take(rig.disk)
    images = [parent, parent]
    for turn in range(6):
        images[turn % 2].put_back(rig.disk)
        report = rig.run_and_sync()
        assert report.saved == (3 if turn < 2 else 6)
        assert report.losses == turn  # the first one continues where the parent was
        rig.run()
        images[turn % 2] = DiskImage.take(rig.disk)
    assert rig.run_and_sync(0).saved == 3
    assert rig.find_unnamed() == []


def test_a_snapshot_is_put_back_while_the_master_was_restored_too(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.run_and_sync()
    disks = [rig.disk, rig.path / "master"]
    snapshots = [DiskImage.take(disk) for disk in disks]
    rig.run_and_sync()
    del rig.acknowledged[6:]
    for disk, snapshot in zip(disks, snapshots, strict=True):
        snapshot.put_back(disk)
    assert rig.run_and_sync().losses == 0  # neither has seen what came later
    assert rig.find_unnamed() == []
    snapshots[0].put_back(rig.disk)
    assert rig.run_and_sync().losses == 1
    assert rig.find_unnamed() == []


def test_an_older_master_continues(rig: DiskRig) -> None:
    rig.run_and_sync()
    snapshot = DiskImage.take(rig.path / "master")
    for _ in range(3):
        rig.run_and_sync()
    snapshot.put_back(rig.path / "master")
    report = rig.run_and_sync()
    assert (report.saved, report.losses) == (12, 0)


def test_another_disk_takes_the_place(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.run()
    DiskImage({}).put_back(rig.disk)
    report = rig.run_and_sync()
    assert (report.saved, report.losses, report.warning_type) == (3, 1, LOSSES_WARNING)
    (loss,) = rig.read_losses()
    assert loss.reason == ANOTHER_STORE
    assert rig.find_unnamed() == []


def test_a_swap_between_two_requests_is_noticed(rig: DiskRig) -> None:
    """The clone does not answer for the window that begins where the other one's has ended."""
    rig.run_and_sync()
    DiskImage.take(rig.disk).put_back(rig.path / "clone")
    own = rig.run(disk=rig.path / "clone")
    with rig.slave() as slave, rig.slave(rig.path / "clone") as clone:
        rig.receive(slave)
        rig.clock.sleep(2 * SPAN_S)
        answering = [slave, clone]
        client = SimulatedClient("s", lambda: answering.pop(0) if len(answering) > 1 else clone)
        with rig.master(slave) as master:
            master.clients["s"] = client
            (report,) = master.sync().slaves
            assert "stint: this slave's store does not continue" in report.error
            (report,) = master.sync().slaves
            assert (report.error, report.saved) == ("", len(own))


def test_restarts_and_unchanged_disks_are_no_alarm(rig: DiskRig) -> None:
    for _ in range(3):
        assert rig.run_and_sync().losses == 0
        DiskImage.take(rig.disk).put_back(rig.disk)
        rig.run()
    assert rig.read_losses() == ()
    with rig.slave() as slave, rig.master(slave) as master:
        state = master.slave_states()["s"]
        assert slave_complete_until(state) == state.cursor


def report_until_crash(rig: DiskRig, step: int, *, after: bool) -> tuple[Stint | None, bool]:
    """Start a slave and report, in a process that ends at one of its writes.

    Return the stint that was reported, and whether the process came to its end.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child must not run anything of pytest
        try:
            crash_at(step, after=after)
            with rig.slave() as slave:
                slave.receiver.receive(b'{"step":%d}' % step, Meta())
                info = slave.describe()
                os.write(writing, f"{info.stint}/{info.horizon}".encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return parse_stint(text) if text else None, code == 0


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_write_of_a_start_is_no_alarm(rig: DiskRig, *, after: bool) -> None:
    """What was reported is known from then on; what was not costs nothing."""
    rig.run_and_sync()
    step, reported, ended = 0, 0, False
    while not ended:
        step += 1
        rig.clock.sleep(1)
        stint, ended = report_until_crash(rig, step, after=after)
        with rig.slave() as slave:
            assert stint is None or slave.receiver.knows(stint)
            assert rig.sync(slave).losses == 0
        reported += stint is not None
    assert reported > 1
    assert step > 5
    assert rig.find_unnamed() == []


def test_records_that_the_master_had_before_are_counted(rig: DiskRig) -> None:
    """Something removes the files of the master's store, again and again."""

    def refuse() -> Slave:
        raise SlaveUnreachable("gone")

    rig.run_and_sync()
    for turn in range(1, 3):
        for path in (rig.path / "master").glob("0*.sqlite3*"):
            path.unlink()
        with rig.slave() as slave, rig.master(slave) as master:
            master.clients["s"] = SimulatedClient(
                "s", refuse
            )  # the next sync knows it all the same
            assert master.sync().slaves[0].error
        report = rig.run_and_sync()
        assert (report.saved, report.again) == (3 * turn + 3, 3 * turn)
        with rig.slave() as slave, rig.master(slave) as master:
            state = master.slave_states()["s"]
            found = find_slave_conditions(rig.clock.now(), 10**9, "s", state)
        assert ("recovered-again" in {each.name for each in found}) == (turn == 2)
    assert rig.run_and_sync().again == 0
    Path(rig.disk / "state.sqlite3").unlink()  # the slave's store gets another epoch
    for path in (rig.path / "master").glob("0*.sqlite3*"):
        path.unlink()
    report = rig.run_and_sync()
    assert (report.saved, report.again) == (15, 0)
