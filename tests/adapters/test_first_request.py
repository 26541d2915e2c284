"""Each route as the first request to a node that was just made: the store opens for any of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from portable_core.settings import Role, Settings
from portable_core.webhooks.feed import NDJSON
from portable_core.wiring import build_app

TOKEN = "a-console-token-of-length"
BEARER = {"Authorization": "Bearer sync-token"}
HTML = {"Accept": "text/html"}


def make_client(role: Role) -> Any:
    """A client of an application whose store no request has opened."""
    console = {"CONSOLE_TOKEN": TOKEN, "REPLAY_TARGETS": "http://127.0.0.1:9"}
    own = console if role == "master" else {}
    env = {"STORE": "memory:", "SYNC_TOKENS": "sync-token", **own}
    return build_app(Settings.from_env(role, env)).test_client()


def log_in(client: Any) -> str:
    """Log in to the console, which needs no store; returns what its forms carry."""
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login", headers=HTML).text)
    assert csrf is not None
    assert client.post("/login", data={"csrf": csrf[1], "token": TOKEN}).status_code == 303
    return csrf[1]


def list_requests(role: Role) -> list[tuple[str, str, dict[str, str]]]:
    """Every route, as method, address and headers, and what needs the store in another way."""
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
        body = answer.get_data()  # to its end, where it is a stream
        assert answer.status_code < 500, (method, path, headers, body)
