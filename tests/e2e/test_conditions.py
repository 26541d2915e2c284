"""Each condition, made by a real fault of real processes, in all five places that show it.

The places: the status document, the command, the console, the metrics, the log.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.adapters.flask_app.console.texts import format_sentence
from portable_core.demo.processes import NodeProcess
from portable_core.sync.conditions import KINDS, OF_SLAVES
from tests.support.nodes.faults import (
    CONSOLE_TOKEN,
    FAULTS,
    ask_text,
    make_master,
    read_conditions,
    start_with_too_small_a_store,
    wait_for_gap,
)
from tests.support.nodes.sync_nodes import TOKEN, Nodes, post, start
from tests.support.stores.hung_disks import hung
from tests.support.stores.small_disks import mount_small_disk

#: Longer than the time between two looks for conditions.
PATIENCE_S = 40


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


@pytest.fixture(scope="module", autouse=True)
def overfull(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Start a slave whose minute until retention passes during the other tests."""
    with Nodes(tmp_path_factory.mktemp("overfull")) as nodes:
        yield start_with_too_small_a_store(nodes)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_the_same_condition_in_all_places(nodes: Nodes, name: str) -> None:
    node = FAULTS[name](nodes)
    check_places(node, name)


#: A node that acknowledges at once, and has room for four webhooks until they are stored.
SMALL_BUFFER = {
    "ACK": "buffered",
    "BUFFER_RECORDS": "4",
    "FLUSH_INTERVAL_S": "1",
    "SPAN_S": "120",
}


def test_a_full_disk_is_two_conditions_and_both_end(nodes: Nodes, tmp_path: Path) -> None:
    """What was acknowledged from memory waits, and is stored once there is space."""
    with mount_small_disk(tmp_path / "disk") as disk:
        master = make_master(nodes, {}, STORE=f"sqlite:{disk / 'store'}", **SMALL_BUFFER)
        start(master)
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 65536)
            except OSError:
                pass
        accepted = post(master, range(6))
        assert accepted.keys() == {0, 1, 2, 3}  # the others got 503
        check_places(master, "store-down")
        check_places(master, "buffer-full")
        ballast.unlink()
        assert wait_for_line(master, "condition ended: store-down")
        assert wait_for_line(master, "condition ended: buffer-full")
        names = {each["name"] for each in read_conditions(master)}
        assert not names & {"store-down", "buffer-full"}
        master.stop()
        assert {record.payload for record in nodes.read(master)} == {*accepted.values()}


@pytest.mark.deep
def test_a_disk_that_hangs_fills_the_buffer(nodes: Nodes) -> None:
    master = make_master(nodes, {}, **SMALL_BUFFER)
    start(master)
    assert post(master, [0]).keys() == {0}
    while json.loads(ask_text(master, "/status"))["buffer"]["records"]:
        time.sleep(0.1)
    with hung(nodes.folder / "master"):
        accepted = post(master, range(1, 7))
        assert accepted.keys() == {1, 2, 3, 4}  # the others got 503
        check_places(master, "buffer-full")
    assert wait_for_line(master, "condition ended: buffer-full")
    master.stop()
    assert {record.payload for record in nodes.read(master)} > {*accepted.values()}


def test_too_small_a_store_loses_records(overfull: NodeProcess) -> None:
    wait_for_gap(overfull)
    check_places(overfull, "records-removed")


def test_each_condition_has_a_fault() -> None:
    assert {*FAULTS, "store-down", "buffer-full", "records-removed"} == {*KINDS}


def check_places(node: NodeProcess, name: str) -> None:
    """Compare the places, and print which ones show the condition."""
    (condition,) = (each for each in read_conditions(node) if each["name"] == name)
    text, subject = condition["text"], condition["subject"]
    command = run_status(node)
    metric = (
        f'webhook_sync_condition{{name="{name}",severity="{condition["severity"]}",'
        f'subject="{subject}"}} 1.0'
    )
    places = {
        "document": bool(text) and condition["action"].endswith("."),
        "command": same(text.rstrip(".")) in same(command.stdout)
        and condition["section"] in command.stdout,
        "metrics": metric in ask_text(node, "/metrics"),
        "log": wait_for_line(node, f"condition began: {name}"),
    }
    if node.role == "master":
        # In the card of its slave, or beside the name of what it concerns.
        named = subject and name not in OF_SLAVES
        shown = f"<b>{subject}</b>: {text}" if named else format_sentence(text)
        places["console"] = same(shown) in same(read_console(node))
    print(f"{name:17} {condition['severity']:9} " + ", ".join(p for p in places if places[p]))
    assert all(places.values()), (places, condition, command.stdout)
    worst = {each["severity"] for each in read_conditions(node)}
    assert command.returncode == (0 if worst == {"notice"} else 1)


def same(text: str) -> str:
    """Return a text without the numbers in it: they grow while the places are compared."""
    return re.sub(r"\d+", "N", text).replace("N webhooks", "N webhook")


def run_status(node: NodeProcess) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "portable_core", "status", "--master", node.url],
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYNC_TOKENS": TOKEN},
    )


def wait_for_line(node: NodeProcess, text: str) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if text in node.log.read_text():
            return True
        time.sleep(0.2)
    return False


def read_console(node: NodeProcess) -> str:
    """Return the text of the first page, as a visitor who has logged in sees it."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
    page = opener.open(f"{node.url}/login", timeout=30).read().decode()
    match = re.search('name="csrf" value="([^"]+)"', page)
    assert match is not None
    form = urllib.parse.urlencode({"csrf": match[1], "token": CONSOLE_TOKEN}).encode()
    shown: str = opener.open(f"{node.url}/login", form, timeout=30).read().decode()
    return shown.replace("&#39;", "'").replace("&#34;", '"').replace("&lt;", "<")
