"""A master that syncs by itself, as processes: with ``SYNC_EVERY_S`` and with the option."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from portable_core.adapters.firestore import FirestoreStore
from portable_core.demo.processes import NodeProcess
from portable_core.records import MAX_INTEGER
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, post, start


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def wait_for_line(node: NodeProcess, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in node.log.read_text():
        assert time.monotonic() < deadline, node.read_log_end()
        time.sleep(0.05)


def test_a_master_recovers_without_a_scheduler_and_stops_at_once(nodes: Nodes) -> None:
    fill(nodes.folder / "alpha", [make_record(1, now_ms() - 60_000)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1", SYNC_EVERY_S="0.3")
    start(master)
    wait_for_line(master, "Slave unreachable")
    start(slave)
    wait_for_line(master, "slave alpha: 1 webhooks recovered")
    began = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - began < 5


def count_syncs(master: NodeProcess) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{master.url}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    match = re.search(
        r'^webhook_sync_sync_runs_total{outcome="ok",slave="alpha"} (\d+)', text, re.M
    )
    return 0 if match is None else int(match[1])


def count_recovered(masters: Iterable[NodeProcess]) -> int:
    logs = [node.log.read_text() for node in masters]
    counts = [re.findall(r"alpha: (\d+) webhooks recovered", log) for log in logs]
    return sum(map(int, itertools.chain(*counts)))


def test_two_instances_on_one_database_sync_about_as_often_as_one(nodes: Nodes) -> None:
    database = name_database()
    store = f"firestore:{PROJECT}/{database}"
    env = {"FIRESTORE_EMULATOR_HOST": use_emulator(), "STORE": store, "SYNC_EVERY_S": "4"}
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    masters = [
        nodes.make_master({"alpha": slave.url}, "container", name, SPAN_S="1", **env)
        for name in ("one", "two")
    ]
    start(*masters)
    acknowledged, began = 0, time.monotonic()
    while time.monotonic() - began < 22:
        acknowledged += len(post(slave, [acknowledged]))
        time.sleep(0.2)
    assert count_recovered(masters) > 0.5 * acknowledged
    # One instance makes a sync every 4 s; each one that is not shared would double that.
    assert 3 <= sum(map(count_syncs, masters)) <= 8
    # The other goes on alone, and none of the webhooks is missing or stored twice.
    assert masters[0].stop() == 0
    before, deadline = count_syncs(masters[1]), time.monotonic() + 60
    while count_syncs(masters[1]) < before + 2:
        assert time.monotonic() < deadline, masters[1].read_log_end()
        time.sleep(0.5)
    payloads = read_payloads(database)
    assert sorted(payloads) == sorted(set(payloads))
    assert count_recovered(masters) == len(payloads) == acknowledged


def read_payloads(database: str) -> list[bytes]:
    store = FirestoreStore(PROJECT, database, commit_timeout_ms=10_000)
    store.open("crc32c")
    try:
        return [record.payload for record in store.records(0, MAX_INTEGER)]
    finally:
        store.close()


def test_the_option_counts_before_the_setting_and_only_for_a_master() -> None:
    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "portable_core", "serve", *arguments, "--check"],
            capture_output=True,
            text=True,
            timeout=60,
            env={"STORE": "memory:", "SYNC_TOKENS": "t", "SYNC_EVERY_S": "60"},
        )

    assert check("--role", "master", "--sync-every", "30").returncode == 0
    wrong = check("--role", "master", "--sync-every", "0.01")
    assert (wrong.returncode, wrong.stdout) == (
        1,
        "SYNC_EVERY_S: must be at least 0.1 (got 0.01)\n",
    )
    assert check("--role", "slave", "--sync-every", "30").returncode == 2
