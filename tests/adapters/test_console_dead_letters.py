"""Dead letters in the console, without a browser: listed, retried, dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.delivery_state import DeliveryFile
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ports import ConsumerState
from portable_core.settings import Settings
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Changes, DeadLetter
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.wiring import build_app
from tests.support.nodes.receivers import ReplayTarget, run_receiver

TOKEN = "a-console-token-of-length"


@pytest.fixture
def receiver() -> Iterator[ReplayTarget]:
    with run_receiver(lambda body: 200 if body == b"1" else 503) as receiver:
        yield receiver


class Console:
    """A master's console, logged in."""

    def __init__(self, env: dict[str, str]) -> None:
        settings = {"SYNC_TOKENS": "sync-token", "CONSOLE_TOKEN": TOKEN, **env}
        self.client = build_app(Settings.from_env("master", settings)).test_client()
        self.post("/login", token=TOKEN)

    def post(self, path: str, **form: str) -> Any:
        page = self.client.get("/login" if path == "/login" else "/replays")
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        return self.client.post(path, data={"csrf": csrf[1], **form})

    def read(self) -> str:
        text = re.sub(r"<[^>]+>", " ", self.client.get("/dead-letters").text)
        return re.sub(r"\s+", " ", text)


@pytest.fixture
def console(tmp_path: Path, receiver: ReplayTarget) -> Console:
    return Console({"STORE": f"sqlite:{tmp_path / 'store'}", "FORWARD_URL": receiver.url})


def add_dead_letters(folder: Path, count: int) -> None:
    path = folder / "store/forward/state.sqlite3"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = DeliveryFile(path, exclusive=True)
    letters = [
        Webhook(f"p{n}", f"{n}-7", source="<b>", event="push", timestamp=n, payload=b"%d" % n)
        for n in range(count)
    ]
    dead = tuple(DeadLetter(one, 5, Outcome(422, "<script>")) for one in letters)
    file.write(Changes("p", dead=dead))
    file.close()


def test_they_are_shown_retried_and_dropped(
    console: Console, receiver: ReplayTarget, tmp_path: Path
) -> None:
    assert "There are no dead letters." in console.read()
    add_dead_letters(tmp_path, 4)
    page = console.client.get("/dead-letters").text
    assert "<script>" not in page.replace("<script src", "")
    assert "<b>" not in page
    assert '<a href="/webhooks/1-7">1-7</a>' in page
    text = console.read()
    assert "oldest first: 4" in text
    assert text.count("422 &lt;script&gt;") == 4
    for action, id in (("retry", "1-7"), ("retry", "2-7"), ("drop", "3-7"), ("drop", "9-9")):
        answer = console.post("/dead-letters", action=action, id=id)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/dead-letters")
    assert [body for _, body in receiver.taken] == [b"1", b"2"]
    assert receiver.taken[0][0]["webhook-sync-attempt"] == "6"
    text = console.read()
    assert "oldest first: 2" in text
    assert "503 Service Unavailable" in text
    assert "Requests 6" in text
    assert ("1-7" in text, "3-7" in text) == (False, False)


def test_a_form_without_csrf_or_action_changes_nothing(
    console: Console, receiver: ReplayTarget, tmp_path: Path
) -> None:
    add_dead_letters(tmp_path, 1)
    assert (
        console.client.post("/dead-letters", data={"action": "drop", "id": "0-7"}).status_code
        == 403
    )
    assert console.post("/dead-letters", action="x", id="0-7").status_code == 400
    assert "oldest first: 1" in console.read()
    assert receiver.taken == []


def test_many_are_shown_in_part(console: Console, tmp_path: Path) -> None:
    add_dead_letters(tmp_path, 130)
    assert "oldest first: 130. The first 100 are shown." in console.read()


def test_a_master_that_does_not_forward_says_so() -> None:
    console = Console({"STORE": "memory:"})
    assert "set FORWARD_URL" in console.read()
    assert "/dead-letters" not in console.client.get("/replays").text


def test_the_overview_names_the_consumer_of_a_condition(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    store.open("crc32c")
    store.save_consumer("shop", ConsumerState(store.newest_arrival(), 0))
    store.set_mark("missed-shop", 3_600_000)
    store.close()
    page = Console({"STORE": f"sqlite:{tmp_path / 'store'}"}).client.get("/").text
    assert '<p class="problem"><b>shop</b>: retention removed webhooks before 1970-' in page
