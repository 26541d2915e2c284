"""``FORWARD_URL``: a master that forwards by a process of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from portable_core.errors import SettingsError
from portable_core.settings import Settings
from tests.e2e.test_forward import wait_until
from tests.support.nodes.receivers import ReplayTarget, run_receiver
from tests.support.nodes.sync_nodes import Nodes, post, start

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.fixture
def receiver() -> Iterator[ReplayTarget]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def master(tmp_path: Path, receiver: ReplayTarget) -> Iterator[NodeProcess]:
    with Nodes(tmp_path) as nodes:
        env = {
            "FORWARD_URL": receiver.url,
            "FORWARD_SECRET": SECRET,
            "FORWARD_OPTIONS": "--rate 90",
        }
        yield nodes.make_master({}, "container", "master", **env)


def find_children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_webhooks_are_forwarded_across_restarts(
    master: NodeProcess, receiver: ReplayTarget
) -> None:
    start(master)
    post(master, range(5))
    wait_until(lambda: len(receiver.taken) == 5)
    headers, _ = receiver.taken[0]
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["webhook-sync-delivery"] == "forwarded"
    [child] = find_children(master.pid)
    began = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - began < 8
    assert not runs(child)
    master.start()
    master.wait_until_healthy()
    post(master, range(5, 8))
    wait_until(lambda: len(receiver.taken) == 8)


def test_it_ends_with_a_master_that_is_killed(master: NodeProcess, receiver: ReplayTarget) -> None:
    start(master)
    post(master, range(1))
    wait_until(lambda: receiver.taken)
    [child] = find_children(master.pid)
    os.kill(master.pid, signal.SIGKILL)
    wait_until(lambda: not runs(child))


def test_it_is_started_again(master: NodeProcess, receiver: ReplayTarget, tmp_path: Path) -> None:
    start(master)
    wait_until(lambda: find_children(master.pid))
    [child] = find_children(master.pid)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: "is started again" in master.log.read_text())
    post(master, range(3))
    wait_until(lambda: len(receiver.taken) == 3)
    with sqlite3.connect(tmp_path / "master/forward/state.sqlite3") as database:
        assert database.execute("SELECT COUNT(*) FROM state").fetchone() == (1,)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"STORE": "memory:"}, "FORWARD_URL: needs STORE=sqlite:PATH"),
        ({"STORE": "firestore:a/b"}, "FORWARD_URL: needs STORE=sqlite:PATH"),
        ({"FORWARD_OPTIONS": "--source 'a"}, "FORWARD_OPTIONS: "),
        ({"FORWARD_URL": "shop.example"}, "FORWARD_URL: "),
        ({"FORWARD_SECRET": "x"}, "FORWARD_SECRET: "),
    ],
)
def test_settings_that_do_not_fit(env: dict[str, str], message: str) -> None:
    settings = {"SYNC_TOKENS": "secret", "FORWARD_URL": "http://shop.example/", **env}
    with pytest.raises(SettingsError, match=message):
        Settings.from_env("master", settings)
