"""A slave that has lost acknowledged webhooks is not complete until an operator acknowledges it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.flask_app import create_app
from portable_core.adapters.metrics import Metrics
from portable_core.errors import LeaseHeld, NotFound
from portable_core.node import Node
from portable_core.records import Pair
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.completeness import slave_complete_until, synced_until
from portable_core.sync.master import Master
from portable_core.sync.resuming import LOSSES_WARNING
from portable_core.sync.slave import Slave
from portable_core.webhooks.names import Names
from portable_core.webhooks.search import Finder
from tests.support.stores.disk_rig import DiskRig
from tests.support.stores.samples import HOUR
from tests.support.stores.sqlite_damages import overwrite
from tests.support.stores.sqlite_folders import list_data_files

TOKEN = "a-console-token-of-length"


@pytest.fixture
def rig(tmp_path: Path) -> DiskRig:
    return DiskRig(tmp_path)


def damage(rig: DiskRig) -> list[Pair]:
    """Receive webhooks, and damage the file in which they are; return them."""
    pairs = rig.run()
    overwrite(list_data_files(rig.disk)[-1])
    return pairs


@contextmanager
def running(rig: DiskRig) -> Iterator[tuple[Slave, Master]]:
    with rig.slave() as slave, rig.master(slave) as master:
        yield slave, master


def acknowledge_all(master: Master) -> None:
    for loss in master.losses.describe().losses:
        if loss.acknowledged is None:
            master.losses.acknowledge(loss.slave, loss.id)


def test_a_damaged_file_keeps_a_slave_from_being_complete(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    lost = damage(rig)
    report = rig.run_and_sync()
    assert (report.losses, report.warning_type, report.saved) == (1, LOSSES_WARNING, 3)
    assert rig.find_unnamed() == []
    with running(rig) as (_, master):
        state = master.slave_states()["s"]
        assert state.cursor is not None
        assert slave_complete_until(state) <= lost[0].timestamp < state.cursor
        assert synced_until(state.cursor, [state]) == state.cursor
        (loss,) = master.losses.describe().losses
        assert (loss.slave, loss.name) == ("s", list_data_files(rig.disk)[1].name)
        with pytest.raises(NotFound, match="'s' has no loss 'abc'"):
            master.losses.acknowledge("s", "abc")
        with pytest.raises(NotFound, match="'t' has no loss"):
            master.losses.acknowledge("t", loss.id)
        master.losses.acknowledge("s", loss.id)
    report = rig.run_and_sync()
    assert (report.losses, report.warning) == (0, "")
    with running(rig) as (_, master):
        state = master.slave_states()["s"]
        assert slave_complete_until(state) == state.cursor


def test_a_damaged_file_that_was_synced_is_no_loss(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.clock.sleep(2 * HOUR / 1000)
    rig.run_and_sync()
    overwrite(list_data_files(rig.disk)[0])
    report = rig.run_and_sync()
    assert (report.losses, report.warning) == (0, "")


def test_a_file_that_can_be_read_again_ends_its_loss(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    rig.run()
    path = list_data_files(rig.disk)[-1]
    good = path.read_bytes()
    overwrite(path)
    assert rig.run_and_sync().losses == 1
    path.write_bytes(good)
    report = rig.run_and_sync()
    assert (report.losses, report.saved) == (0, 6)
    assert rig.read_losses() == ()


def test_a_damaged_file_that_is_removed_stays_a_loss(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    damage(rig)
    with rig.slave():
        pass  # it notices the damage
    list_data_files(rig.disk)[-1].unlink()
    for _ in range(2):
        assert rig.run_and_sync().losses == 1
    with running(rig) as (_, master):
        acknowledge_all(master)
    assert rig.run_and_sync().losses == 0


def test_retention_that_removes_a_damaged_file_ends_no_loss(rig: DiskRig) -> None:
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    damage(rig)
    assert rig.run_and_sync().losses == 1
    with rig.slave() as slave:
        slave.receiver.store.prune(rig.clock.now() + HOUR)
        assert slave.receiver.store.status().damaged == ()
    assert rig.run_and_sync().losses == 1


def test_a_gap_of_retention_is_a_loss(rig: DiskRig) -> None:
    rig.run_and_sync()
    with rig.slave() as slave:
        store = slave.receiver.store
        for _ in range(3):
            rig.clock.sleep(HOUR / 1000)
            rig.receive(slave)
        assert store.prune_to_size(1, slave.masters.find_slowest(slave.receiver.info()))
        assert rig.sync(slave).losses == 1
    assert rig.find_unnamed() == []


@pytest.fixture
def client(rig: DiskRig) -> Iterator[tuple[FlaskClient, Master]]:
    """The master's application, after a sync that found a loss."""
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    damage(rig)
    rig.run_and_sync()
    with running(rig) as (_, master):
        env = {"STORE": "memory:", "SYNC_TOKENS": "abc", "CONSOLE_TOKEN": TOKEN}
        settings = Settings.from_env("master", env | {"SLAVES": "s=http://s"})
        metrics = Metrics(settings)

        def authenticate(header: str | None) -> None:
            assert header == "Bearer abc"

        node = Node(
            settings,
            master.receiver,
            authenticate,
            lambda *_: Admit(),
            master=master,
            finder=Finder(master.store, Names({})),
        )
        app = create_app(node, expose=lambda accept: metrics.expose(node, accept))
        yield app.test_client(), master


def test_every_view_of_a_loss(client: tuple[FlaskClient, Master]) -> None:
    web, _ = client
    bearer = {"Authorization": "Bearer abc"}

    def read_status() -> dict[str, object]:
        document = json.loads(web.get("/status", headers=bearer).data)["slaves"]["s"]
        assert isinstance(document, dict)
        return document

    (loss,) = json.loads(web.get("/losses", headers=bearer).data)["losses"]
    status = read_status()
    assert status["losses"] == [{k: v for k, v in loss.items() if k != "slave"}]
    assert status["complete_until"] == loss["start"]
    assert b'webhook_sync_slave_losses{slave="s"} 1.0' in web.get("/metrics", headers=bearer).data
    csrf = re.search(r'name="csrf" value="([^"]+)"', web.get("/login").text)
    assert csrf is not None
    web.post("/login", data={"csrf": csrf[1], "token": TOKEN})
    page = web.get("/").text
    assert "Webhooks may be lost: a slave has lost some" in page
    assert "webhook-sync losses acknowledge" in page
    path = f"/losses/s/{loss['id']}/acknowledge"
    (after,) = json.loads(web.post(path, headers=bearer).data)["losses"]
    assert after["acknowledged"]
    assert read_status()["complete_until"] == status["cursor"]
    assert b'webhook_sync_slave_losses{slave="s"} 0.0' in web.get("/metrics", headers=bearer).data
    assert "Webhooks may be lost" not in web.get("/").text
    assert web.post("/losses/s/abc/acknowledge", headers=bearer).status_code == 404


def test_no_loss_is_acknowledged_while_another_process_syncs(
    client: tuple[FlaskClient, Master],
) -> None:
    _, master = client
    (loss,) = master.losses.describe().losses
    master._store.acquire_lease("another", master.receiver.clock.now(), 20_000)
    with pytest.raises(LeaseHeld):
        master.losses.acknowledge("s", loss.id)


def test_an_acknowledgement_during_a_sync_is_kept(rig: DiskRig) -> None:
    """The sync gives way to it, and does not save the loss again as it was."""
    rig.run_and_sync()
    rig.clock.sleep(HOUR / 1000)
    damage(rig)
    rig.run_and_sync()
    threads: list[threading.Thread] = []
    with rig.slave() as slave, rig.master(slave) as master:
        rig.receive(slave)
        rig.clock.sleep(600)

        def acknowledge_meanwhile() -> None:
            if not threads:
                threads.append(threading.Thread(target=acknowledge_all, args=(master,)))
                threads[0].start()
                until = time.monotonic() + 30
                while not master._turns.wanted and time.monotonic() < until:
                    time.sleep(0.01)

        master.clients["s"] = SimulatedClient("s", lambda: slave, pause=acknowledge_meanwhile)
        (report,) = master.sync().slaves
        threads[0].join()
        assert (report.error, report.losses) == ("", 0)
        (loss,) = master.losses.describe().losses
        assert loss.acknowledged is not None
