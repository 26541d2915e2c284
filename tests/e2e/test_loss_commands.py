"""A loss of a real slave, in the commands ``sync``, ``status``, ``verify`` and ``losses``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.sync.resuming import ANOTHER_STORE, EARLIER_STORE
from tests.e2e.test_quarantine_commands import run
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start, sync
from tests.support.stores.disk_images import DiskImage

DAY_MS = 86_400_000


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


@pytest.mark.parametrize(
    "reason", [EARLIER_STORE, pytest.param(ANOTHER_STORE, marks=pytest.mark.deep)]
)
def test_an_operator_acknowledges_a_loss(nodes: Nodes, reason: str) -> None:
    """The slave comes back with an older snapshot, or with an empty disk."""
    slave = nodes.make_slave()
    fill(nodes.folder / "slave", [make_record(n, now_ms() - DAY_MS + n) for n in range(5)])
    snapshot = DiskImage.take(nodes.folder / "slave")
    master = nodes.make_master({"alpha": slave.url})
    start(slave, master)
    assert sync(master).status == 200
    assert run(master, "status").returncode == 0
    assert run(master, "losses", "list").returncode == 0
    slave.kill()
    if reason == EARLIER_STORE:
        snapshot.put_back(nodes.folder / "slave")
    else:
        shutil.rmtree(nodes.folder / "slave")
    start(slave)

    def verify() -> tuple[int, str]:
        done = run(master, "verify", "--slave", "alpha")
        return done.returncode, done.stderr

    code, text = verify()  # before the master has noticed it
    assert (code, f"Not complete: {reason}" in text) == (1, True), text
    report = sync(master)
    assert (report.status, report.body["slaves"][0]["losses"]) == (200, 1)
    done = run(master, "status")
    assert (done.returncode, reason in done.stdout) == (1, True), done.stdout
    code, text = verify()
    assert (code, reason in text) == (1, True), text
    done = run(master, "losses", "list")
    assert (done.returncode, "open" in done.stdout) == (1, True)
    (loss,) = json.loads(run(master, "losses", "list", "--json").stdout)["losses"]
    assert run(master, "losses", "acknowledge", "alpha", "abc").returncode == 1
    assert run(master, "losses", "acknowledge", "alpha").returncode == 2
    done = run(master, "losses", "acknowledge", "alpha", loss["id"])
    assert (done.returncode, "acknowledged" in done.stdout) == (0, True)
    assert run(master, "losses", "acknowledge", "alpha", "--all").returncode == 1
    for command in (("status",), ("losses", "list"), ("verify", "--slave", "alpha")):
        done = run(master, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sync(master).body["slaves"][0]["warning"] == ""
