"""Responses that no node sends: the commands print one line and set an exit code, never print a
traceback, and print nothing that a terminal obeys."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from portable_core.cli.main import main
from portable_core.sync.report import SlaveReport, SyncReport

MS = 1_795_597_239_596
ID = f"{MS}-7"
ODD: tuple[Any, ...] = (
    None,
    [1],
    {"a": 1},
    10**30,
    -1,
    1.5,
    True,
    "x",
    "\x1b[31m\ud800",
    float("nan"),
)

REPORT = SlaveReport("alpha", MS, pairs_sent=3, seconds=0.5, cursor=MS, behind_ms=5).to_json()
SYNC = SyncReport(MS, 0.5, []).to_json() | {"slaves": [REPORT]}
STATUS = {
    "store": {"uuid": "u", "generation": 1, "hash": "crc32c", "records": 1, "newest": MS},
    "buffer": {"records": 0},
    "horizon": MS,
    "now": MS,
    "slaves": {"alpha": {"complete_until": MS, "report": REPORT}},
}
ROW = {"id": ID, "hash": 7, "timestamp": MS, "source": "shop", "event": "sold", "size": 2}
RECOVERED = ROW | {"recovery": {"slave": "alpha", "at": MS}}
WEBHOOK = {
    "id": ID,
    "meta": {"source": "shop", "headers": {"x-a": "b"}},
    "recovery": {"slave": "alpha", "at": MS},
    "raw": "e30=",
}
SLAVE = {
    "store": "ee86a4f7-3b5a-4876-a0ae-9203ae202d31",
    "generation": 1,
    "first": 1,
    "horizon": MS,
    "now": MS,
    "span": 5000,
    "hash": "crc32c",
    "encodings": ["application/json"],
}


@dataclass
class Site:
    """A server's responses by path; ``events`` are those of a sync's stream, name and data."""

    url: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, path: str) -> bytes:
        if path == "/trigger-sync":
            lines = (f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in self.events)
            return "".join(lines).encode()
        return json.dumps(self.documents.get(path, {})).encode()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(site.answer(self.path.partition("?")[0]))

        do_POST = do_GET  # noqa: N815  # the name is the library's

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for name, member in value.items():
            yield from list_paths(member, (*path, name))


def spoil(document: Any) -> Iterator[tuple[str, Any]]:
    """Copies in each of which one value is another or missing, with the names of what was done."""
    for path in list_paths(document):
        for odd in ODD:
            holder = [copy.deepcopy(document)]
            inner: Any = holder
            last: Any = 0
            for name in path:
                inner, last = inner[last], name
            inner[last] = odd
            yield f"{path} is {odd!r}", holder[0]
        if path:
            spoiled = inner = copy.deepcopy(document)
            for name in path[:-1]:
                inner = inner[name]
            del inner[path[-1]]
            yield f"{path} is missing", spoiled


def run(site: Site, *arguments: str) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--master", site.url, "--token", "t"])
    assert isinstance(result.exception, SystemExit | None), repr(result.exception)
    assert "\x1b" not in result.output
    return result


def check_line(result: Result, code: int, text: str) -> None:
    assert (result.exit_code, len(result.output.splitlines())) == (code, 1), result.output
    assert text in result.output


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "json"])
def test_a_status_of_another_shape(site: Site, as_json: tuple[str, ...]) -> None:
    site.documents = {"/status": STATUS}
    assert run(site, "status", *as_json).exit_code == 0
    for done, document in spoil(STATUS):
        site.documents = {"/status": document}
        result = run(site, "status", *as_json)
        if done.startswith(("() ", "('now',)", "('slaves',) is missing")):
            check_line(result, 3, ". Is --master the address of a master?")


def test_a_page_of_another_shape(site: Site) -> None:
    site.documents = {"/webhooks": {"webhooks": [RECOVERED], "before": ID}}
    assert run(site, "webhooks", "list").output.startswith(ID)
    for _, document in spoil({"webhooks": [], "before": ID}):
        site.documents = {"/webhooks": document}
        run(site, "webhooks", "list")
    for done, row in spoil(RECOVERED):
        site.documents = {"/webhooks": {"webhooks": [row], "before": None}}
        result = run(site, "webhooks", "list")
        if "'size'" in done:
            check_line(result, 3, "the response is ")


@pytest.mark.parametrize("form", [(), ("--raw",), ("--json",)], ids=["text", "raw", "json"])
def test_a_webhook_of_another_shape(site: Site, form: tuple[str, ...]) -> None:
    site.documents = {f"/webhooks/{ID}": WEBHOOK}
    assert run(site, "webhooks", "show", ID, *form).exit_code == 0
    for done, document in spoil(WEBHOOK):
        site.documents = {f"/webhooks/{ID}": document}
        result = run(site, "webhooks", "show", ID, *form)
        if done.startswith("() "):
            check_line(result, 3, ". Is --master the address of a master?")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "json"])
def test_a_sync_told_in_another_shape(site: Site, as_json: tuple[str, ...]) -> None:
    site.events = [("progress", REPORT), ("report", SYNC)]
    assert run(site, "sync", *as_json).exit_code == 0
    for _, document in spoil(SYNC):
        site.events = [("report", document)]
        run(site, "sync", *as_json)
    for _, document in spoil(REPORT):
        site.events = [("report", SYNC | {"slaves": [document]})]
        run(site, "sync", *as_json)
        site.events = [("progress", document), ("report", SYNC)]
        run(site, "sync", *as_json)
    for _, document in spoil({"title": "Conflict", "detail": "another sync is running"}):
        site.events = [("problem", document)]
        result = run(site, "sync", *as_json)
        readable = ". Is --master the address" not in result.output  # the master's reason is shown
        check_line(result, 1 if readable else 3, "Error: ")


def test_a_comparison_with_answers_of_another_shape(site: Site) -> None:
    for path, valid in (("/status", STATUS), ("/sync", SLAVE)):
        for _, document in spoil(valid):
            site.documents = {"/status": STATUS, "/sync": SLAVE, path: document}
            result = run(site, "verify", "--slave-url", site.url)
            if "Nothing to compare" not in result.output:
                check_line(result, 3, "Error: ")


def test_what_a_refusal_says_is_not_obeyed(site: Site) -> None:
    site.events = [("problem", {"title": "No", "detail": "\x1b]0;a title\x07 and\nmore"})]
    check_line(run(site, "sync"), 1, r"Error: No: \u001b]0;a title\u0007 and more")
