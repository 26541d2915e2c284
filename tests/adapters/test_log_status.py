"""Delivery logs in the status, the console, the metrics, the feed and exported records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from portable_core.settings import Settings
from portable_core.wiring import build_app
from tests.support.providers.github import TOKEN, GithubStandIn, refuse, run_github
from tests.support.providers.masters import ago

CONSOLE_TOKEN = "a-console-token-of-length"
BEARER = {"Authorization": "Bearer sync-token"}
HTML = {"Accept": "text/html"}

Client = Any


@pytest.fixture
def github() -> Iterator[GithubStandIn]:
    with run_github() as github:
        yield github


@pytest.fixture
def client(github: GithubStandIn) -> Client:
    log = f"hub-log=github:acme/shop/hooks/1?source=hub&token=env:T&base={github.api.url}"
    env = {
        "STORE": "memory:",
        "SYNC_TOKENS": "sync-token",
        "CONSOLE_TOKEN": CONSOLE_TOKEN,
        "T": TOKEN,
        "PROVIDER_LOGS": log,
    }
    return build_app(Settings.from_env("master", env)).test_client()


def log_in(client: Client) -> None:
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login", headers=HTML).text)
    assert csrf is not None
    client.post("/login", data={"csrf": csrf[1], "token": CONSOLE_TOKEN})


def test_a_log_is_shown_wherever_slaves_are(github: GithubStandIn, client: Client) -> None:
    github.add({"number": 1}, ago(30))
    report = client.post("/trigger-sync", headers=BEARER).json
    assert (report["ok"], report["slaves"][0]["saved"]) == (True, 1)
    document = client.get("/status", headers=BEARER).json
    assert document["slaves"]["hub-log"]["log"] == "github:acme/shop/hooks/1"
    assert document["slaves"]["hub-log"]["url"] is None
    assert document["conditions"] == []
    metrics = client.get("/metrics", headers=BEARER).text
    assert 'webhook_sync_log_requests_total{log="hub-log"} 2.0' in metrics
    assert 'webhook_sync_slave_ok{slave="hub-log"} 1.0' in metrics
    log_in(client)
    page = client.get("/", headers=HTML).text
    assert 'aria-label="Delivery log hub-log"' in page
    assert "github:acme/shop/hooks/1" in page
    (line,) = client.get("/feed?after=", headers=BEARER).text.splitlines()[:1]
    found = json.loads(line)
    assert (found["came"], found["via"]) == ("hub-log", "github")
    shown = client.get(f"/webhooks/{found['id']}", headers=HTML).text
    assert "delivery log of github" in shown
    exported = client.get(f"/webhooks/{found['id']}", headers=BEARER).json
    assert exported["meta"]["via"] == "github"


def test_a_failing_log_is_a_condition(github: GithubStandIn, client: Client) -> None:
    github.api.intercept = lambda request: refuse(401, "Bad credentials")
    answer = client.post("/trigger-sync", headers=BEARER)
    assert answer.json["ok"] is False
    (condition,) = client.get("/status", headers=BEARER).json["conditions"]
    assert (condition["name"], condition["subject"]) == ("slave-failed", "hub-log")
    assert "401: Bad credentials" in condition["text"]
    assert "PROVIDER_LOGS" in condition["action"]
    assert TOKEN not in json.dumps(client.get("/status", headers=BEARER).json)
