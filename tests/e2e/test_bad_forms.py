"""Invalid input in the console's forms is rejected by name, and has no effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import ask, post
from tests.support.requests.raw_http import RawAnswer, exchange

TOKEN = "a-console-token-of-length"
TARGET = "http://127.0.0.1:9/"

#: By the fields after the form's random text: the response's status, and a text on its page.
LOGINS = {
    "": (401, "token"),
    "&token=%ff%00%ed%a0%80": (401, "token"),
    "&token=" + "9" * 60_000: (401, "token"),
    "&token=a" * 5000: (401, "token"),
    "&" * 5000: (401, "token"),
}
REPLAYS = {
    "": (400, "start, end: missing"),
    "&start=1": (400, "start, end: missing"),
    "&start=2&end=1": (400, "end must be after"),
    "&start=x&end=2": (400, "start: "),
    "&start=%D9%A1&end=2": (400, "start: "),
    "&start=1&end=" + "9" * 5000: (400, "end: "),
    "&webhook=x": (400, "webhook id: must be"),
    "&webhook=" + "9" * 5000: (400, "webhook id: must be"),
    "&webhook=1-1": (404, "1-1"),
    **{
        f"&start=1&end=2&url={TARGET}&parallel={text}": (400, "parallel: must be")
        for text in ("0", "-1", "x", "%C2%B2", "%D9%A1", "1.5", "9" * 5000)
    },
    **{
        f"&start=1&end=2&url={url}": (status, "")
        for url, status in {
            "": 400,
            "http://[::1": 400,
            "http://127.0.0.1:9@elsewhere/": 400,
            f"{TARGET}%0d%0aX-Bad:1": 400,
            "http://127.0.0.1:99/": 403,
            "file:///etc/passwd": 400,
        }.items()
    },
}


def fill(port: int, path: str, cookie: str, body: str) -> RawAnswer:
    kind = "Content-Type: application/x-www-form-urlencoded"
    return exchange(port, ask("POST", path, f"Cookie: {cookie}", kind, body=body.encode()))


def read_form(answer: RawAnswer) -> str:
    found = re.search(rb'name="csrf" value="([^"]+)"', answer.body)
    assert found is not None
    return f"csrf={found[1].decode()}"


@pytest.mark.parametrize("kind", ["container", "function"])
def test_invalid_forms_are_rejected(tmp_path: Path, kind: Kind) -> None:
    with Nodes(tmp_path) as nodes:
        node = nodes.make_master({}, kind, CONSOLE_TOKEN=TOKEN, REPLAY_TARGETS=TARGET)
        start(node)
        page = exchange(node.port, ask("GET", "/login"))
        (cookie,), form = page.cookies, read_form(page)
        faults = {}

        def try_all(path: str, cases: dict[str, tuple[int, str]]) -> None:
            for body, (status, text) in cases.items():
                answer = fill(node.port, path, cookie, form + body)
                if answer.status != status or text not in answer.body.decode():
                    faults[f"{path} {body[:60]}"] = (answer.status, answer.body[-300:])

        entered = fill(node.port, "/login", cookie, f"{form}&token={TOKEN}")
        assert entered.status == 303
        try_all("/login", LOGINS)
        (cookie,) = entered.cookies
        form = read_form(exchange(node.port, ask("GET", "/", f"Cookie: {cookie}")))
        try_all("/replays", REPLAYS)
        form = "csrf=%ff%ed%a0%80"  # a form of another login
        try_all("/replays", dict.fromkeys(REPLAYS, (403, "has expired")))
        assert not faults
        assert exchange(node.port, post(b'{"good":1}')).status == 200
        assert node.stop() == 0
        log = node.log.read_text()
        assert "Traceback" not in log
        assert "unexpected error" not in log
