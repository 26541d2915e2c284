"""Backups of real nodes while they receive and sync, restored after their disk is gone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from portable_core.sync.resuming import EARLIER_STORE
from tests.e2e.test_quarantine_commands import BIN, run
from tests.support.nodes.senders import sending
from tests.support.nodes.sync_nodes import Nodes, ask, start, sync

SPAN_S = 1

#: Backups that are killed while they copy.
KILLS = 4


def start_backup(node: NodeProcess, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / "webhook-sync"), "backup", str(folder)],
        env={"STORE": node.env["STORE"], "PATH": "/usr/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_backup(node: NodeProcess, folder: Path) -> str:
    process = start_backup(node, folder)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def restore(node: NodeProcess, backup: Path) -> None:
    """Replace the folder of a node, which does not run, by its backup."""
    folder = Path(node.env["STORE"].removeprefix("sqlite:"))
    shutil.rmtree(folder)
    done = subprocess.run(
        [str(BIN / "webhook-sync"), "restore", str(backup), str(folder)],
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def list_sent(nodes: Nodes, node: NodeProcess) -> list[int]:
    return [json.loads(record.payload)["n"] for record in nodes.read(node)]


@pytest.mark.parametrize("role", ["master", pytest.param("slave", marks=pytest.mark.deep)])
def test_a_node_is_restored_from_a_backup_under_load(tmp_path: Path, role: str) -> None:
    chance = random.Random(role)
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(SPAN_S=str(SPAN_S))
        master = nodes.make_master({"alpha": slave.url}, SPAN_S=str(SPAN_S), SYNC_EVERY_S="0.5")
        node = {"slave": slave, "master": master}[role]
        start(slave, master)
        backup = tmp_path / "backup"
        with (
            sending(lambda: slave.port, threads=4) as ours,
            sending(lambda: master.port, threads=4, first=1_000_000) as others,
        ):
            results = {"slave": ours, "master": others}
            run_backup(node, backup)
            for _ in range(KILLS):
                names = set(os.listdir(backup))
                process = start_backup(node, backup)
                while set(os.listdir(backup)) == names and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.03))
                process.kill()
                process.communicate()
            before = set(results[role].timestamps)
            run_backup(node, backup)
            time.sleep(2 * SPAN_S)
        assert len(before) > 100
        assert not [refusal for refusal in results[role].refusals if refusal.status != 503]
        node.kill()
        restore(node, backup)
        there = list_sent(nodes, node)
        assert before <= set(there)
        start(node)
        time.sleep(2 * SPAN_S)
        report = sync(master)
        assert report.status == 200, report.body
        (of_slave,) = report.body["slaves"]
        assert (report.status, of_slave["error"]) == (200, "")
        verified = run(master, "verify", "--slave", "alpha")
        losses = ask(master, "GET", "/losses").body["losses"]
        if role == "slave":
            assert [loss["reason"] for loss in losses] == [EARLIER_STORE]
            assert (verified.returncode, EARLIER_STORE in verified.stderr) == (1, True)
            assert "missing:" not in verified.stdout
            assert run(master, "losses", "acknowledge", "alpha", "--all").returncode == 0
            verified = run(master, "verify", "--slave", "alpha")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "nothing is missing" in verified.stderr
        assert run(master, "status").returncode == 0
        master.stop()
        if role == "master":  # with everything that came after the backup
            assert set(ours.timestamps) <= set(list_sent(nodes, master))
        print(f"{role}: {len(before)} acknowledged before the backup, {len(there)} restored")
