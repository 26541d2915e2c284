"""The console's login, its headers, and the feed, without a browser."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from flask import Flask

from portable_core.ports import Quarantined
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Role, Settings
from portable_core.webhooks.feed import NDJSON
from portable_core.wiring import build_app

TOKEN = "a-console-token-of-length"
BEARER = {"Authorization": "Bearer sync-token"}
HTML = {"Accept": "text/html"}

Client = Any


def make_app(role: Role = "master", **env: str) -> Flask:
    own = {"STORE": "memory:", "SYNC_TOKENS": "sync-token", "SPAN_S": "1"}
    return build_app(Settings.from_env(role, {**own, **env}))


@pytest.fixture
def client() -> Client:
    return make_app(CONSOLE_TOKEN=TOKEN).test_client()


def read_csrf(client: Client) -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', client.get("/login", headers=HTML).text)
    assert match is not None
    return match[1]


def log_in(client: Client, **form: str) -> Any:
    return client.post("/login", data={"csrf": read_csrf(client), "token": TOKEN, **form})


def post_webhooks(client: Client, count: int) -> list[str]:
    """Post webhooks; return their ids in the order of the store."""
    pairs = []
    for number in range(count):
        pair = client.post("/webhook/shop", json={"n": number}).json
        pairs.append((pair["timestamp"], pair["hash"]))
    time.sleep(0.005)  # so that the horizon is after them
    return [f"{timestamp}-{hash_}" for timestamp, hash_ in sorted(pairs)]


PATHS = ("/", "/console/live", "/console/events", "/webhooks", "/webhooks/1-1", "/quarantine")
MORE_PATHS = ("/webhooks/1-1/payload", "/quarantine/x/payload", "/replays", "/replays/x/events")
POSTS = ("/console/sync", "/replays", "/replays/x/stop", "/replays/x/again", "/logout")


@pytest.mark.parametrize("path", PATHS + MORE_PATHS)
def test_nothing_is_shown_without_a_login(client: Client, path: str) -> None:
    answer = client.get(path, headers=HTML)
    assert (answer.status_code, answer.headers["Location"][:12]) == (303, "/login?next=")


@pytest.mark.parametrize("path", POSTS)
def test_a_form_needs_a_login_and_a_page_of_this_console(client: Client, path: str) -> None:
    assert client.post(path, data={"csrf": read_csrf(client)}).location.startswith("/login")
    log_in(client)
    assert client.post(path).status_code == 403
    assert client.post(path, data={"csrf": "x"}).status_code == 403
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/", headers=HTML).text)
    assert csrf is not None
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    answer = client.post(path, data={"csrf": csrf[1]}, headers=elsewhere)
    assert answer.status_code == 403


def test_a_login_needs_the_token_and_a_form_of_this_console(client: Client) -> None:
    assert client.post("/login", data={"token": TOKEN}).status_code == 403
    assert log_in(client, token="wrong").status_code == 401
    assert log_in(client, token="").status_code == 401
    assert log_in(client).status_code == 303
    assert client.get("/", headers=HTML).status_code == 200


def test_the_login_redirects_only_to_this_host(client: Client) -> None:
    for given, location in (
        ("/webhooks?source=a", "/webhooks?source=a"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
    ):
        assert log_in(client, next=given).headers["Location"] == location


def test_the_cookie_is_signed_and_sent_only_to_this_host() -> None:
    app = make_app(CONSOLE_TOKEN=TOKEN)
    client = app.test_client()
    cookie = log_in(client).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    client = app.test_client()
    name, _, value = cookie.partition(";")[0].partition("=")
    other_character = "y" if value[3] == "x" else "x"
    for forged in (value[:-2], f"{value[:3]}{other_character}{value[4:]}", ""):
        client.set_cookie(name, forged)
        assert client.get("/", headers=HTML).status_code == 303
    client.set_cookie(name, value)
    assert client.get("/", headers=HTML).status_code == 200
    other = make_app(CONSOLE_TOKEN=TOKEN[::-1]).test_client()
    other.set_cookie(name, value)
    assert other.get("/", headers=HTML).status_code == 303


def test_every_page_has_a_strict_policy(client: Client) -> None:
    log_in(client)
    (webhook,) = post_webhooks(client, 1)
    paths = ("/", "/login", "/webhooks", f"/webhooks/{webhook}", "/quarantine", "/replays")
    for path in (*paths, "/webhooks/1-1", "/webhooks?start=x", "/console/static/console.js"):
        headers = client.get(path, headers=HTML).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    page = client.get(f"/webhooks/{webhook}", headers=HTML)
    assert page.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", page.text)


def test_a_download_is_bytes_that_no_browser_displays(client: Client) -> None:
    log_in(client)
    payload = b'{"x": "<script>alert(1)</script>\\u00e9"}'
    pair = client.post("/webhook", data=payload, content_type="application/json").json
    answer = client.get(f"/webhooks/{pair['timestamp']}-{pair['hash']}/payload")
    assert answer.data == payload
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_without_a_token_the_response_names_the_setting() -> None:
    client = make_app().test_client()
    answer = client.get("/", headers=HTML)
    assert answer.status_code == 404
    assert "CONSOLE_TOKEN" in answer.get_json()["detail"]
    assert client.get("/login").status_code == 404
    assert client.get("/webhooks", headers=HTML).status_code == 401
    assert make_app("slave").test_client().get("/").status_code == 404


def test_without_replay_targets_no_webhook_is_replayed(client: Client) -> None:
    log_in(client)
    (webhook,) = post_webhooks(client, 1)
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/", headers=HTML).text)
    assert csrf is not None
    form = {"csrf": csrf[1], "webhook": webhook, "url": "http://127.0.0.1:9/"}
    answer = client.post("/replays", data=form)
    assert answer.status_code == 403
    assert "REPLAY_TARGETS" in answer.text


def test_refused_webhooks_are_shown_without_secrets() -> None:
    client = make_app(CONSOLE_TOKEN=TOKEN, SOURCES="hub=github:s3cret-text").test_client()
    log_in(client)
    assert "Refused webhooks" not in client.get("/", headers=HTML).text
    for _ in range(3):
        assert client.post("/webhook/hub", json={"n": 1}).status_code == 401
    assert client.post("/webhook/<b>", json={"n": 1}).status_code == 200
    assert client.post("/webhook/<b>", data=b"{").status_code == 400
    page = client.get("/console/live", headers=HTML).text
    section = page[page.index("Refused webhooks") : page.index("Latest webhooks")]
    assert (
        '<td>hub</td><td class="number" data-label="Count">3</td><td>401 Unauthorized</td>'
        in section
    )
    assert "<td>&lt;b&gt;</td>" in section
    assert "s3cret" not in page


def test_the_quarantine_is_shown_and_downloaded_whole(client: Client) -> None:
    log_in(client)
    assert "The quarantine is empty." in client.get("/quarantine", headers=HTML).text
    payload = b"\xff</pre><script>" + b"x" * 5000
    record = Record(Pair(5, 7), payload, Meta("shop"))
    store = find_store(client.application)
    lease = store.acquire_lease("test", 0, 1)
    items = [
        Quarantined(f"slave-1-{at}", "slave-1", at, "its hash is <b>wrong</b>", record)
        for at in range(120)
    ]
    store.save_quarantine(lease, items)
    page = client.get("/quarantine", headers=HTML).text
    assert "120 records" in page
    assert page.count("Download the bytes") == 100
    assert page.index("slave-1-119") < page.index("slave-1-118")
    assert "<b>wrong" not in page
    assert "<script>" not in page.replace("<script src=", "")
    assert client.get("/quarantine/slave-1-119/payload").data == payload
    assert client.get("/quarantine/none/payload").status_code == 404
    assert '<a href="/quarantine">120</a>' in client.get("/").text


# -- for programs ------------------------------------------------------------------------------


def read_lines(client: Client, query: str) -> list[dict[str, Any]]:
    answer = client.get(f"/webhooks?{query}", headers={**BEARER, "Accept": NDJSON})
    assert (answer.status_code, answer.content_type) == (200, NDJSON)
    assert "Sync-Through" not in answer.headers
    *lines, closing = [json.loads(line) for line in answer.data.splitlines()]
    assert closing == {"end": True, "since": closing["since"]}
    return [*lines, closing]


def test_the_feed_continues_where_it_ended(client: Client) -> None:
    ids = post_webhooks(client, 7)
    *first, closing = read_lines(client, "limit=3")
    assert [line["id"] for line in first] == ids[:3]
    assert closing["since"] == ids[2]
    *rest, closing = read_lines(client, f"since={closing['since']}")
    assert [line["id"] for line in rest] == ids[3:]
    numbers = {line["data"]["n"] for line in first + rest}
    assert numbers == set(range(7))
    assert len(read_lines(client, f"since={ids[-1]}")) == 1
    assert len(read_lines(client, "source=other")) == 1
    # The end is a position too: no webhook before it is repeated, none after it is missed.
    later = post_webhooks(client, 2)
    *rest, _ = read_lines(client, f"since={closing['since']}")
    assert [line["id"] for line in rest] == later


def test_pages_and_feed_parse_a_source_alike(client: Client) -> None:
    (of_shop,) = post_webhooks(client, 1)
    pair = client.post("/webhook", json={"n": 0}).json
    of_none = f"{pair['timestamp']}-{pair['hash']}"
    time.sleep(0.005)
    for source, ids in (
        ("-", [of_none]),
        ("shop", [of_shop]),
        ("", [of_shop, of_none]),
        ("%20shop%20", [of_shop]),
        ("other", []),
    ):
        lines = read_lines(client, f"source={source}")[:-1]
        page = client.get(f"/webhooks?source={source}", headers=BEARER).json["webhooks"]
        assert [line["id"] for line in lines] == ids
        assert [row["id"] for row in page[::-1]] == ids


def test_copies_of_a_webhook_are_found_by_its_key(client: Client) -> None:
    sent = [client.post("/webhook/shop?v=2", json={"n": 1}).json for _ in range(2)]
    other = client.post("/webhook/tenant", json={"n": 1}).json
    ids = {f"{pair['timestamp']}-{pair['hash']}" for pair in sent}
    time.sleep(0.005)
    lines = {line["id"]: line for line in read_lines(client, "")[:-1]}
    keys = {lines[id_]["key"] for id_ in ids}
    (key,) = keys
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert lines[f"{other['timestamp']}-{other['hash']}"]["key"] != key
    for query in (f"key={key}", f"key={key.upper()}", f"key={key}&hash={sent[0]['hash']}"):
        rows = client.get(f"/webhooks?{query}", headers=BEARER).json["webhooks"]
        assert {row["id"] for row in rows} == ids
        assert {(row["key"], row["query"]) for row in rows} == {(key, "v=2")}
    assert client.get(f"/webhooks?key={key}&hash=1", headers=BEARER).json["webhooks"] == []
    one = min(ids)
    rows = client.get(f"/webhooks?key={key}&id={one}", headers=BEARER).json["webhooks"]
    assert [row["id"] for row in rows] == [one]
    assert client.get(f"/webhooks/{one}", headers=BEARER).json["key"] == key


def test_the_feed_waits_for_slaves_unless_upto_is_now() -> None:
    client = make_app(SLAVES="a=http://127.0.0.1:9").test_client()
    ids = post_webhooks(client, 2)
    for upto in ("", "&upto=complete", "&upto=settled"):  # the last one is of an older release
        assert read_lines(client, f"since=0{upto}") == [{"end": True, "since": "0"}]
    assert [line["id"] for line in read_lines(client, "upto=now")[:-1]] == ids
    # It stands still, and keeps the position of a consumer that has read further.
    assert read_lines(client, f"since={ids[0]}") == [{"end": True, "since": ids[0]}]


def test_pages_of_json(client: Client) -> None:
    ids = post_webhooks(client, 5)
    page = client.get("/webhooks?limit=2", headers=BEARER).json
    assert [row["id"] for row in page["webhooks"]] == [ids[4], ids[3]]
    page = client.get(f"/webhooks?before={page['before']}&limit=9", headers=BEARER).json
    assert ([row["id"] for row in page["webhooks"]], page["before"]) == (ids[2::-1], None)
    assert client.get(f"/webhooks/{ids[0]}", headers=BEARER).json["data"]["n"] in range(5)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/webhooks?limit=0", 400),
        ("/webhooks?limit=501", 400),
        ("/webhooks?hash=x", 400),
        ("/webhooks?key=x", 400),
        ("/webhooks?before=x", 400),
        ("/webhooks?start=99999999999999999999", 400),
        ("/webhooks/1-1", 404),
        ("/webhooks/x", 400),
        ("/pairs?start=-1", 400),
    ],
)
def test_an_invalid_request_is_a_problem(client: Client, path: str, status: int) -> None:
    assert client.get(path).status_code == 401
    answer = client.get(path, headers=BEARER)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def test_the_status_names_the_slaves() -> None:
    client = make_app(SLAVES="a=http://127.0.0.1:9").test_client()
    slaves = client.get("/status", headers=BEARER).get_json()["slaves"]
    assert (slaves["a"]["complete_until"], slaves["a"]["in_until"]) == (0, 0)


@pytest.mark.parametrize(
    "flags", ["compare_only=1", "keep=1", "compare_only=1&keep=1", "compare_only=0&keep=1"]
)
def test_a_comparison_does_not_advance_the_retention_of_a_slave(flags: str) -> None:
    client = make_app("slave", RETENTION_S="0").test_client()
    post_webhooks(client, 1)
    node = client.get("/sync", headers=BEARER).get_json()
    window = f"start={node['horizon']}&end={node['horizon'] + 1}"
    store = find_store(client.application)
    for query, marked in ((f"{window}&{flags}", 0), (window, node["horizon"])):
        answer = client.post(f"/sync?{query}", headers=BEARER, json=[])
        assert answer.status_code == 200, answer.text
        assert store.mark(f"asked-{node['generation']}") == marked


def find_store(app: Flask) -> Any:
    """Return the store of an application."""
    (view,) = (app.view_functions[name] for name in ("health",))
    (node,) = (
        cell.cell_contents
        for cell in view.__closure__ or ()
        if hasattr(cell.cell_contents, "receiver")
    )
    return node.receiver.store
