"""``FORWARD_URL``: a master that forwards by a process of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from portable_core.cli.main import main
from portable_core.demo.processes import NodeProcess, find_free_port
from portable_core.errors import SettingsError
from portable_core.settings import Settings
from tests.e2e.test_forward import wait_until
from tests.e2e.test_sync_command import COMMAND
from tests.support.nodes.receivers import ReplayTarget, run_receiver
from tests.support.nodes.sync_nodes import TOKEN, Nodes, post, start

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
    assert "Fatal" not in master.log.read_text()
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


def test_settings_may_come_from_a_file(tmp_path: Path, receiver: ReplayTarget) -> None:
    port = find_free_port()
    settings = {
        "SYNC_TOKENS": TOKEN,
        "STORE": f"sqlite:{tmp_path / 'store'}",
        "FORWARD_URL": receiver.url,
        "FORWARD_SECRET": SECRET,
        "PORT": str(port),
    }
    file = tmp_path / "master.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    file.chmod(0o600)
    command = [COMMAND, "serve", "--role", "master", "--host", "127.0.0.1", "--env-file", str(file)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_accepted(port))
        wait_until(lambda: receiver.taken)
        assert "webhook-signature" in receiver.taken[0][0]
    finally:
        process.terminate()
        assert process.wait(20) == 0


def is_accepted(port: int) -> bool:
    url, headers = f"http://127.0.0.1:{port}/webhook/s", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--concurrency many", "FORWARD_OPTIONS: Invalid value for '--concurrency'"),
        ("--concurency 8", "FORWARD_OPTIONS: No such option"),
        ("http://another.example/", "FORWARD_OPTIONS: Got unexpected extra argument"),
    ],
)
def test_options_that_forward_rejects_keep_a_master_from_starting(
    tmp_path: Path, options: str, message: str
) -> None:
    env = {
        "SYNC_TOKENS": TOKEN,
        "STORE": f"sqlite:{tmp_path / 'store'}",
        "FORWARD_URL": "http://shop.example/",
        "FORWARD_OPTIONS": options,
    }
    for more in ([], ["--check"]):
        result = CliRunner().invoke(main, ["serve", "--role", "master", *more], env=env)
        assert result.exit_code == 1
        assert message in result.output


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
