"""The composition root: what it builds, what it logs, and any route as the first request."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portable_core.adapters.logs import LogObserver
from portable_core.demo.processes import Kind
from portable_core.errors import MalformedStream
from portable_core.settings import Role, Settings
from portable_core.store_kinds import STORE_KINDS
from portable_core.sync.observer import Observer, Observers
from portable_core.sync.progress import Progress
from portable_core.sync.report import SlaveReport, SyncReport
from portable_core.webhooks.feed import NDJSON
from portable_core.wiring import build_app, build_node, build_store
from tests.support.nodes.sync_nodes import Nodes, start

ENV = {"STORE": "memory:", "SYNC_TOKENS": "a-token"}
BEARER = {"Authorization": "Bearer a-token"}
HTML = {"Accept": "text/html"}
CONSOLE_TOKEN = "a-console-token-of-length"


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_each_kind_of_store_is_built_with_the_capabilities_of_its_row(kind: str) -> None:
    form = STORE_KINDS[kind].form
    store = build_store(Settings.from_env("master", {**ENV, "STORE": form}))
    assert store.shared == STORE_KINDS[kind].shared


@pytest.mark.parametrize("role", ["slave", "master"])
def test_a_node_has_one_role_and_the_observer_it_was_built_with(role: Role) -> None:
    observer = Observer()
    node = build_node(Settings.from_env(role, ENV), observer)
    assert (node.slave is not None, node.master is not None) == (role == "slave", role == "master")
    assert node.observer is observer


def test_a_hand_over_is_built_only_for_a_slave_that_has_an_address_for_it() -> None:
    env = {**ENV, "HAND_OVER": "http://127.0.0.1:9"}
    assert build_node(Settings.from_env("slave", env)).hand_over is not None
    assert build_node(Settings.from_env("slave", ENV)).hand_over is None
    assert build_node(Settings.from_env("master", env)).hand_over is None


def test_every_observer_gets_every_event() -> None:
    events: list[tuple[str, tuple[object, ...]]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda _self, *arguments: events.append((name, arguments))

    names = {name for name in vars(Observer) if not name.startswith("_")}
    recorder = type("Recorder", (Observer,), {name: record(name) for name in names})
    observers = Observers([recorder(), recorder()])
    calls = {
        "begin_request": (lambda name: None,),
        "observe_webhook": ("hub", "kept", 0.5),
        "observe_kept": ("hub", (0.5,)),
        "observe_commit": (3, 0.5, True),
        "observe_sync": (SyncReport(0, 0.0, []),),
    }
    assert set(calls) == names
    for name, arguments in calls.items():
        events.clear()
        getattr(observers, name)(*arguments)
        assert events == [(name, arguments)] * 2


@pytest.mark.parametrize("kind", ["container", "function"])
def test_warnings_of_a_start_are_in_its_log(tmp_path: Path, kind: Kind) -> None:
    with Nodes(tmp_path) as nodes:
        shut = nodes.make_slave("shut", kind)
        opened = nodes.make_slave("opened", kind, SYNC_AUTH="none", SYNC_TOKENS="", SETTLE_S="0.4")
        start(shut, opened)
        lines = [json.loads(line) for line in opened.log.read_text().splitlines()]
        warnings = [line["message"] for line in lines if line["severity"] == "WARNING"]
        assert len([line for line in warnings if line.startswith("SYNC_AUTH=none: ")]) == 1
        assert len([line for line in warnings if line.startswith("SETTLE_S: ")]) == 1
        quiet = shut.log.read_text()
        assert "SYNC_AUTH" not in quiet
        assert "SETTLE_S" not in quiet


def test_an_invalid_setting_ends_a_start_with_one_line_and_without_secrets() -> None:
    env = {"STORE": "memory:", "SYNC_TOKENS": "correct horse", "SOURCES": "hub=github:hub-secret"}
    code = "from portable_core.wiring import read_settings_or_exit; read_settings_or_exit('slave')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("webhook-sync: SYNC_TOKENS: ")
    assert done.stderr.count("\n") == 1
    assert "horse" not in done.stderr
    assert "hub-secret" not in done.stderr


# -- the first request ----------------------------------------------------------------------------


def make_client(role: Role) -> Any:
    """Return a client of an application whose store no request has opened."""
    console = {"CONSOLE_TOKEN": CONSOLE_TOKEN, "REPLAY_TARGETS": "http://127.0.0.1:9"}
    own = console if role == "master" else {}
    env = {"STORE": "memory:", "SYNC_TOKENS": "a-token", **own}
    return build_app(Settings.from_env(role, env)).test_client()


def log_in(client: Any) -> str:
    """Log in to the console, which needs no store. Returns the CSRF token of its forms."""
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login", headers=HTML).text)
    assert csrf is not None
    assert client.post("/login", data={"csrf": csrf[1], "token": CONSOLE_TOKEN}).status_code == 303
    return csrf[1]


def list_requests(role: Role) -> list[tuple[str, str, dict[str, str]]]:
    """Return method, path and headers for every route, and for other uses of the store."""
    rules = make_client(role).application.url_map.iter_rules()
    found = [
        (method, re.sub(r"<[^>]*>", "1-1", rule.rule), kind)
        for rule in rules
        for method in ("GET", "POST")
        if method in (rule.methods or ())
        for kind in (BEARER, HTML)
    ]
    if role == "master":
        found += [
            ("GET", "/webhooks", {**BEARER, "Accept": NDJSON}),
            ("GET", "/webhooks?id=1-1", HTML),
            ("GET", "/webhooks?id=1-1", BEARER),
            ("GET", "/webhooks?value=x", HTML),
        ]
    return found


@pytest.mark.parametrize("role", ["slave", "master"])
def test_any_route_may_be_the_first(role: Role) -> None:
    requests = list_requests(role)
    assert len(requests) > 5
    for method, path, headers in requests:
        client = make_client(role)
        form: dict[str, Any] = {}
        if role == "master" and headers is HTML:
            form = {"csrf": log_in(client), "webhook": "1-1", "url": "http://127.0.0.1:9"}
        given = {"data": form} if form else {"json": {}}
        answer = client.open(path, method=method, headers=headers, **given)
        body = answer.get_data()  # a stream is read to its end
        assert answer.status_code < 500, (method, path, headers, body)


# -- the log of a sync -----------------------------------------------------------------------------


def read_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]


def test_each_slave_that_cannot_be_synced_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    slaves = "alpha=http://127.0.0.1:1,beta=http://127.0.0.1:2"  # no process listens there
    env = {"SLAVES": slaves, "SYNC_TOKENS": "a-token", "STORE": "memory:"}
    client = build_app(Settings.from_env("master", env)).test_client()
    assert client.post("/trigger-sync", headers=BEARER).status_code == 502
    alpha, beta = sorted(read_warnings(caplog))
    assert alpha.startswith("slave alpha: Slave unreachable: ")
    assert beta.startswith("slave beta: Slave unreachable: ")
    metrics = client.get("/metrics", headers=BEARER).text
    assert 'webhook_sync_sync_runs_total{outcome="failed",slave="alpha"} 1.0' in metrics


def test_a_synced_slave_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    LogObserver().observe_sync(SyncReport(0, 0.0, [SlaveReport("alpha", warning="clock: differs")]))
    assert read_warnings(caplog) == []


def test_the_content_of_a_response_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    error = MalformedStream("hash: must be an integer (got 'part of a payload')", 7)
    progress = Progress("alpha")
    progress.fail(error)
    LogObserver().observe_sync(SyncReport(0, 0.0, [progress.report()]))
    assert read_warnings(caplog) == ["slave alpha: Malformed stream: its report says where"]
