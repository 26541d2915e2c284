"""``webhook-sync repair`` as an operator runs it, on stores that nodes have left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from loadtests.simulation.network import SimulatedClient
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ingest.receiver import Receiver
from portable_core.records import MAX_INTEGER, Meta
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave

HOUR = 3_600_000
YEAR = 365 * 24 * HOUR


class Nodes:
    """A master and a slave on two folders, run by the same clock; the command has the real one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = time.time_ns() // 1_000_000 - 10 * 60_000
        self.clock = SimulatedClock(self.start)
        self.sent: set[bytes] = set()

    def open(self, role: str) -> Receiver:
        env = {"STORE": f"sqlite:{self.path / role}", "SYNC_AUTH": "none"}
        settings = Settings.from_env("slave" if role == "slave" else "master", env)
        return Receiver(settings, SqliteStore(self.path / role), self.clock)

    def receive(self, roles: tuple[str, ...], count: int, ahead: int = 0) -> None:
        """Run nodes whose clocks are ahead; webhooks come a second apart."""
        self.clock.set(self.clock.now() + ahead)
        receivers = [self.open(role) for role in roles]
        for _ in range(count):
            self.clock.sleep(1)
            payload = b'{"number":%d}' % len(self.sent)
            self.sent.add(payload)
            for receiver in receivers:
                receiver.receive(payload, Meta())
        for receiver in receivers:
            receiver.close()
        self.clock.set(self.clock.now() - ahead)

    def sync(self) -> SlaveReport:
        self.clock.set(time.time_ns() // 1_000_000 + 10 * 60_000)
        with closing(self.open("slave")) as receiver, closing(self.open("master")) as ours:
            slave = Slave(receiver)
            master = Master(ours, ours.store, [SimulatedClient("s", lambda: slave)])  # type: ignore[arg-type]  # a master's store
            (report,) = master.sync().slaves
        return report

    def read(self, role: str) -> list[bytes]:
        with closing(self.open(role)) as receiver:
            receiver.open()
            return [record.payload for record in receiver.store.records(0, MAX_INTEGER)]

    def repair(self, role: str, *options: str) -> subprocess.CompletedProcess[str]:
        env = {
            "STORE": f"sqlite:{self.path / role}",
            "SYNC_AUTH": "none",
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-m", "portable_core", "repair", "--role", role, *options]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


def test_a_slave_a_year_ahead_is_repaired_and_synced(nodes: Nodes) -> None:
    nodes.receive(("slave",), 5)
    nodes.receive(("slave",), 7, ahead=YEAR)
    stuck = nodes.sync()
    assert "webhook-sync repair" in stuck.error
    dry = nodes.repair("slave", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "12, of which 7 are ahead" in dry.stdout
    done = nodes.repair("slave", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["records"], report["ahead"], report["moved"]) == (12, 7, 7)
    assert (report["records_after"], report["copies"], report["dry_run"]) == (12, 0, False)
    assert sorted(nodes.read("slave")) == sorted(nodes.sent)
    assert "Nothing to repair" in nodes.repair("slave").stdout
    synced = nodes.sync()
    assert (synced.error, synced.warning) == ("", "")
    assert sorted(nodes.read("master")) == sorted(nodes.sent)


def test_a_master_ahead_by_a_known_offset_gets_no_copies(nodes: Nodes) -> None:
    nodes.receive(("slave",), 6)
    nodes.clock.set(nodes.start)
    sent, nodes.sent = nodes.sent, set()
    nodes.receive(("master",), 6, ahead=3 * HOUR)  # the same at the same time
    assert nodes.sent == sent
    assert "Stop the master" in nodes.sync().error
    done = nodes.repair("master", "--offset", str(3 * HOUR // 1000))
    assert done.returncode == 0, done.stderr
    assert "moved: 6" in done.stdout
    report = nodes.sync()
    assert (report.error, report.saved) == ("", 0)
    assert sorted(nodes.read("master")) == sorted(sent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--offset", "1"), "--offset: leaves records"),
        (("--offset", "9999999999"), "--offset: moves records before 1970"),
    ],
)
def test_an_offset_that_cannot_be_right(
    nodes: Nodes, options: tuple[str, ...], message: str
) -> None:
    nodes.receive(("slave",), 3, ahead=YEAR)
    before = nodes.read("slave")
    done = nodes.repair("slave", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert nodes.read("slave") == before


def test_a_store_in_use_is_not_repaired(nodes: Nodes) -> None:
    nodes.receive(("slave",), 3, ahead=YEAR)
    with closing(nodes.open("slave")) as receiver:
        receiver.open()
        done = nodes.repair("slave")
    assert done.returncode == 1
    assert "is being written by process" in done.stderr


def test_a_folder_that_does_not_exist(nodes: Nodes) -> None:
    done = nodes.repair("slave")
    assert done.returncode == 1
    assert "there is no store" in done.stderr
    assert not (nodes.path / "slave").exists()
