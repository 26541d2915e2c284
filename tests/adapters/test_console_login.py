"""Logins of the console: their cookies, their end, links of other sites, and a path prefix."""

from __future__ import annotations

import re
from typing import Any

import pytest

from portable_core.errors import StoreError
from tests.adapters.test_console import HTML, TOKEN, find_store, log_in, make_app

Client = Any


def make_client(**env: str) -> Client:
    return make_app("master", CONSOLE_TOKEN=TOKEN, **env).test_client()


def read_cookie(answer: Any) -> tuple[str, str]:
    """Return the name and the value of the cookie of a login."""
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    return name, value


def is_logged_in(client: Client, **arguments: Any) -> bool:
    return bool(client.get("/", headers=HTML, **arguments).status_code == 200)


def test_a_link_of_another_site_does_not_replace_a_login() -> None:
    client = make_client()
    assert log_in(client).status_code == 303
    other_site = make_client().application.test_client()  # what a browser sends: no cookie
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    answer = other_site.get("/webhooks?source=a", headers={**HTML, **elsewhere})
    arrival = other_site.get(answer.location, headers=elsewhere)
    assert "Set-Cookie" not in arrival.headers
    match = re.search('content="0;url=([^"]+)"', arrival.text)
    assert match is not None
    # The page itself leads on, so that the browser sends the cookie of the login.
    again = match[1].replace("&amp;", "&")
    assert client.get(again, headers=elsewhere).location == "/webhooks?source=a"
    form = other_site.get(again, headers=elsewhere)
    assert (form.status_code, "Console token" in form.text) == (200, True)
    assert read_cookie(form)[0].startswith("webhook-sync-console-form-")


def test_a_form_without_a_login_keeps_the_login_of_other_tabs() -> None:
    client = make_client()
    login = read_cookie(log_in(client))
    without = client.application.test_client()
    form = read_cookie(without.get("/login"))
    assert form[0] != login[0]
    client.set_cookie(*form)
    assert is_logged_in(client)
    # Its value is not that of a login.
    without.set_cookie(login[0], form[1])
    assert not is_logged_in(without)


@pytest.mark.parametrize("stored", [True, False])
def test_logging_out_ends_every_copy_of_the_cookie(
    stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    copy, other = client.application.test_client(), client.application.test_client()
    copy.set_cookie(*read_cookie(log_in(client)))
    log_in(other)
    assert is_logged_in(copy)
    match = re.search('name="csrf" value="([^"]+)"', client.get("/", headers=HTML).text)
    assert match is not None
    store = find_store(client.application)
    store.set_mark("console-logout-expired", 1)

    def refuse(name: str, value: int) -> None:
        raise StoreError("the disk is full")

    if not stored:
        monkeypatch.setattr(store, "set_mark", refuse)
    assert client.post("/logout", data={"csrf": match[1]}).location == "/login"
    assert not is_logged_in(client)
    assert not is_logged_in(copy)
    assert is_logged_in(other)
    marks = store.marks("console-logout-")
    assert (len(marks), "console-logout-expired" in marks) == (1, not stored)


def test_two_masters_on_one_host_keep_separate_logins() -> None:
    client = make_client()
    here = {"base_url": "http://host.example:8080"}
    names = set()
    for app, base in (
        (client.application, "http://host.example:8080"),
        (client.application, "http://host.example:8081"),
        (make_client(PUBLIC_URL="http://host.example:8080/b").application, here["base_url"]),
        (make_client(STORE="sqlite:/nowhere/else").application, here["base_url"]),
        (make_app(CONSOLE_TOKEN=TOKEN[::-1]), here["base_url"]),
    ):
        answer = app.test_client().get("/login", base_url=base)
        names.add(read_cookie(answer)[0])
    assert len(names) == 5


@pytest.mark.parametrize(
    ("secure", "base", "headers", "env"),
    [
        # Anyone can send the header; the server applies the rules of TRUSTED_PROXIES to it.
        (False, "http://host.example", {"X-Forwarded-Proto": "https"}, {}),
        (True, "https://host.example", {}, {}),
        (True, "http://host.example", {"X-Forwarded-Proto": "https"}, {"K_SERVICE": "master"}),
        (True, "http://host.example", {}, {"PUBLIC_URL": "https://host.example/hooks"}),
        (False, "http://10.0.0.5:8080", {}, {"PUBLIC_URL": "https://host.example/hooks"}),
    ],
)
def test_the_cookie_is_secure_where_the_browser_uses_https(
    secure: bool, base: str, headers: dict[str, str], env: dict[str, str]
) -> None:
    answer = make_client(**env).get("/login", base_url=base, headers=headers)
    assert ("Secure" in answer.headers["Set-Cookie"].split("; ")) == secure


@pytest.mark.parametrize("removed", [True, False], ids=["removed by the proxy", "passed on"])
def test_pages_work_under_the_path_of_the_public_url(removed: bool) -> None:
    client = make_client(PUBLIC_URL="https://host.example/a/hooks/")
    prefix = "" if removed else "/a/hooks"

    def get(path: str) -> Any:
        return client.get(f"{prefix}{path}", headers=HTML, base_url="https://host.example")

    def keep_cookie(answer: Any) -> None:
        """Send the cookie with any path: the client does not see the path that a browser sees."""
        client.set_cookie(*read_cookie(answer), domain="host.example", path="/")

    assert get("/webhooks?source=x").location == "/a/hooks/login?next=/webhooks%3Fsource%3Dx"
    page = get("/login")
    keep_cookie(page)
    match = re.search('name="csrf" value="([^"]+)"', page.text)
    assert match is not None
    answer = client.post(
        f"{prefix}/login",
        data={"csrf": match[1], "token": TOKEN, "next": "/webhooks"},
        base_url="https://host.example",
    )
    assert answer.location == "/a/hooks/webhooks"
    assert "Path=/a/hooks" in answer.headers["Set-Cookie"]
    keep_cookie(answer)
    posted = client.post("/webhook/shop", json={"n": 1}).json
    webhook = f"/webhooks/{posted['timestamp']}-{posted['hash']}"
    for path in ("/", "/webhooks", webhook, "/quarantine", "/replays", "/webhooks/1-1"):
        answer = get(path)
        assert answer.status_code in (200, 404)
        links = re.findall(r'(?:href|src|action|data-url|data-events)="([^"]*)"', answer.text)
        assert len(links) > 5
        assert [link for link in links if link[:1] == "/" and link[:9] != "/a/hooks/"] == []
    assert get("/console/static/console.js").status_code == 200
    assert client.post("/webhook/shop", json={"n": 1}).status_code == 200
