"""Replays from the console, without a browser: progress, results by status, stop, again."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portable_core.settings import Settings
from portable_core.wiring import build_app
from tests.support.nodes.receivers import ReplayTarget, run_receiver

TOKEN = "a-console-token-of-length"
RANGE = {"start": "0", "end": "9999999999999"}
PATIENCE_S = 60


class Gate:
    """The responses of the receiver: none before the gate is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.choose: Callable[[int], int] = lambda number: 200

    def answer(self, body: bytes) -> int:
        self.opened.wait(PATIENCE_S)
        return self.choose(int(json.loads(body)["n"]))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def receiver(gate: Gate) -> Iterator[ReplayTarget]:
    with run_receiver(gate.answer) as receiver:
        yield receiver
        gate.opened.set()


class Console:
    """A master's console, logged in."""

    def __init__(self, receiver: ReplayTarget) -> None:
        env = {
            "STORE": "memory:",
            "SYNC_TOKENS": "sync-token",
            "CONSOLE_TOKEN": TOKEN,
            "REPLAY_TARGETS": receiver.url,
        }
        self.client = build_app(Settings.from_env("master", env)).test_client()
        self.post("/login", token=TOKEN)

    def post(self, path: str, **form: str) -> Any:
        page = self.client.get("/login" if path == "/login" else "/replays")
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        return self.client.post(path, data={"csrf": csrf[1], **form})

    def start(self, receiver: ReplayTarget, **form: str) -> str:
        """Start a run; return the path of its page."""
        answer = self.post("/replays", url=receiver.url, **form)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["Location"])

    def read(self, run: str) -> str:
        """Return the text of the run's page."""
        text = re.sub(r"<[^>]+>", " ", self.client.get(f"{run}/live").text)
        return re.sub(r"\s+", " ", text).replace(" :", ":")

    def wait_for(self, run: str, text: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while text not in (page := self.read(run)):
            assert time.monotonic() < deadline, page
            time.sleep(0.02)
        return page


@pytest.fixture
def console(receiver: ReplayTarget) -> Console:
    console = Console(receiver)
    for number in range(30):
        assert console.client.post("/webhook/shop", json={"n": number}).status_code == 200
    return console


def test_a_stopped_run_shows_its_progress(
    console: Console, receiver: ReplayTarget, gate: Gate
) -> None:
    run = console.start(receiver, **RANGE)
    page = console.wait_for(run, "Running")
    assert "0 delivered, 0 failed, of 30" in page
    # Without scripts the page reloads itself while the run is in progress.
    assert '<noscript><meta http-equiv="refresh"' in console.client.get(run).text
    deadline = time.monotonic() + PATIENCE_S
    while not receiver.taken:  # until the first request
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert console.post(f"{run}/stop").status_code == 303
    gate.opened.set()
    page = console.wait_for(run, "Stopped")
    assert "1 delivered, 0 failed, of 30" in page
    assert len(receiver.taken) == 1
    assert "http-equiv" not in console.client.get(run).text
    assert "stopped" in console.client.get("/replays").text


def test_results_are_by_status_and_only_failed_webhooks_are_retried(
    console: Console, receiver: ReplayTarget, gate: Gate
) -> None:
    gate.choose = lambda number: {0: 500, 1: 404}.get(number % 10, 200)
    gate.opened.set()
    run = console.start(receiver, **RANGE)
    page = console.wait_for(run, "Done")
    assert "24 delivered, 6 failed, of 30" in page
    assert re.search(r"Status Webhooks 200 24 404 3 500 3", page)
    receiver.taken.clear()
    gate.choose = lambda number: 200
    again = str(console.post(f"{run}/again").headers["Location"])
    assert "6 delivered, 0 failed, of 6" in console.wait_for(again, "Done")
    assert sorted(json.loads(body)["n"] for _, body in receiver.taken) == [0, 1, 10, 11, 20, 21]


def test_a_run_of_one_source_has_no_total(
    console: Console, receiver: ReplayTarget, gate: Gate
) -> None:
    gate.opened.set()
    console.client.post("/webhook/other", json={"n": 99})
    run = console.start(receiver, **RANGE, source="other")
    page = console.wait_for(run, "Done")
    assert "1 delivered, 0 failed." in page


def test_an_invalid_range_is_rejected(console: Console, receiver: ReplayTarget) -> None:
    for start, end in (("5", "5"), ("6", "5"), ("", "5"), ("5", "")):
        answer = console.post("/replays", url=receiver.url, start=start, end=end)
        assert answer.status_code == 400
    assert "No runs since" in console.client.get("/replays").text
