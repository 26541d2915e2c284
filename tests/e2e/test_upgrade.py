"""Upgrades: stores of earlier versions, and nodes of different versions beside each other."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.backup import Backup
from portable_core.adapters.sqlite.restore import Restore
from portable_core.demo.processes import NodeProcess
from portable_core.records import MAX_INTEGER
from tests.e2e.test_quarantine_commands import run
from tests.support.nodes.sync_nodes import Nodes, ask, post, start, sync
from tests.support.stores.sqlite_folders import list_data_files, opened

STORES = Path(__file__).parents[1] / "vectors" / "stores"
OLD = [path.name for path in sorted(STORES.iterdir()) if path.is_dir()]

#: Another version of this project: a folder with a checkout and its ``.venv``.
EARLIER = os.environ.get("EARLIER", "")

with_earlier = [
    pytest.mark.deep,
    pytest.mark.skipif(not EARLIER, reason="EARLIER names no checkout of another version"),
]

SLAVE, MASTER = [*range(9)], [0, 3, 1, 2, 4, 5, 100]


def copy(version: str, folder: Path) -> None:
    """Give nodes in this folder the stores of a version."""
    for role in ("slave", "master"):
        shutil.copytree(STORES / version / role, folder / role)


def read_numbers(store: SqliteStore) -> list[int]:
    return [json.loads(record.payload)["number"] for record in store.records(0, MAX_INTEGER)]


@pytest.mark.parametrize("version", OLD)
def test_nodes_continue_on_stores_of_an_earlier_version(version: str, tmp_path: Path) -> None:
    copy(version, tmp_path)
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(SPAN_S="1")
        master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
        start(slave, master)
        post(slave, [9])
        time.sleep(2)
        (report,) = sync(master).body["slaves"]
        assert (report["error"], report["warning"]) == ("", "")
        assert (report["records_received"], report["saved"]) == (4, 4)  # from its cursor on
        assert ask(master, "GET", "/status").body["store"]["generation"] == 1
        done = run(master, "verify", "--slave", "alpha")
        assert (done.returncode, "nothing is missing" in done.stderr) == (0, True), done.stderr
        assert run(master, "status").returncode == 0
        slave.stop()
        master.stop()
    for role, there in (("slave", [*SLAVE, 9]), ("master", [*MASTER, 6, 7, 8, 9])):
        with opened(tmp_path / role) as store:
            numbers = read_numbers(store)
            assert store.losses() == []
            arrived = [json.loads(arrival.record.payload)["number"] for arrival in store.arrivals()]
        assert sorted(numbers) == sorted(arrived) == sorted(there)


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("version", OLD)
def test_a_store_of_an_earlier_version_is_backed_up(
    version: str, role: str, tmp_path: Path
) -> None:
    """Before a node of this version has opened the store, too."""
    copy(version, tmp_path)
    Backup(tmp_path / role, tmp_path / "backup").run()
    Restore(tmp_path / "backup", tmp_path / "restored").run()
    with opened(tmp_path / "restored") as store:
        assert sorted(read_numbers(store)) == sorted(SLAVE if role == "slave" else MASTER)
        assert store.losses() == []


@pytest.mark.parametrize("version", OLD)
def test_a_removal_that_an_earlier_version_began_is_completed(version: str, tmp_path: Path) -> None:
    copy(version, tmp_path)
    folder = tmp_path / "master"
    with sqlite3.connect(folder / "state.sqlite3") as connection:
        ((key, value),) = connection.execute("SELECT key, value FROM state WHERE key GLOB 'file:*'")
        value = json.dumps({**json.loads(value), "unsettled": True}).encode()
        connection.execute("UPDATE state SET value = ? WHERE key = ?", (value, key))
    connection.close()
    list_data_files(folder)[0].unlink()  # the process was killed before it saved the removal
    with opened(folder) as store:
        assert store.losses() == []
        assert store.status().files == 0


# -- versions beside each other --------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class EarlierNode(NodeProcess):
    """A node of the version in the folder ``EARLIER``."""

    def _command(self) -> list[str]:
        _, *rest = NodeProcess._command(self)
        return [f"{EARLIER}/.venv/bin/python", *rest]


def make_earlier(node: NodeProcess, env: Mapping[str, str] | None = None) -> EarlierNode:
    """Return a node of the earlier version with the settings of this one."""
    return EarlierNode(
        node.name, node.role, node.kind, {**node.env, **(env or {})}, node.log, node.port
    )


@pytest.mark.parametrize("earlier", [pytest.param("slave", marks=with_earlier)])
def test_a_newer_master_syncs_an_older_slave(earlier: str, tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = make_earlier(nodes.make_slave(SPAN_S="1"))
        master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
        try:
            start(slave, master)
            sent = post(slave, range(5))
            time.sleep(2)
            (report,) = sync(master).body["slaves"]
            assert (report["error"], report["saved"]) == ("", 5)
        finally:
            slave.kill()
        master.stop()
        assert {record.payload for record in nodes.read(master)} == set(sent.values())


@pytest.mark.parametrize("earlier", [pytest.param("master", marks=with_earlier)])
def test_an_older_master_stores_nothing_wrong_of_a_newer_slave(
    earlier: str, tmp_path: Path
) -> None:
    """It syncs the slave or is refused; after its upgrade nothing is missing."""
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(SPAN_S="1")
        master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
        older = make_earlier(master)
        try:
            start(slave, older)
            sent = post(slave, range(5))
            time.sleep(2)
            (report,) = sync(older).body["slaves"]
            assert not report["set_aside"]
            assert report["saved"] == 5 or "upgrade the master first" in report["error"]
        finally:
            older.stop()
        start(master)
        (report,) = sync(master).body["slaves"]
        assert (report["error"], report["warning"]) == ("", "")
        master.stop()
        assert sorted(r.payload for r in nodes.read(master)) == sorted(sent.values())


@pytest.mark.parametrize("earlier", [pytest.param("slave", marks=with_earlier)])
def test_a_slave_goes_back_to_the_version_before(earlier: str, tmp_path: Path) -> None:
    """Records under an identity that the older version does not report are set aside, not lost."""
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(SPAN_S="1")
        older = make_earlier(slave)
        master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
        sent: dict[int, bytes] = {}
        try:
            for number, node in enumerate([older, slave, older]):
                start(node)
                sent |= post(node, range(10 * number, 10 * number + 5))
                if node is older and number:
                    break
                node.stop()
            start(master)
            time.sleep(2)
            (report,) = sync(master).body["slaves"]
            assert (report["error"], report["saved"] + report["set_aside"]) == ("", 15)
            assert report["saved"] >= 10
        finally:
            older.kill()
