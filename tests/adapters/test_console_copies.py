"""Copies of one webhook, similar webhooks and their differences on the console's pages."""

from __future__ import annotations

import html
import json
import re
import time
from typing import Any

import pytest

from portable_core.adapters.flask_app.console.texts import suggest_rule
from portable_core.ports import SlaveState
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.sources.source_file import read_sources_file
from tests.adapters.test_console import HTML, TOKEN, Client, find_store, log_in, make_app

NOW = time.time_ns() // 1_000_000 - 60_000
HOSTILE = "</code></td><script>window.struck = 1</script>\u202e{{ 7 * 7 }}"


@pytest.fixture
def client() -> Client:
    client = make_app(CONSOLE_TOKEN=TOKEN, SLAVES="slave-1=http://127.0.0.1:9").test_client()
    log_in(client)
    client.get("/webhooks", headers=HTML)  # opens the store
    return client


def make(at: int, number: int, payload: bytes, recovered: bool = False, **meta: Any) -> Record:
    recovery = Recovery("slave-1", NOW) if recovered else None
    return Record(Pair(NOW + at, number), payload, Meta("pay", **meta), recovery)


def add(client: Client, *records: Record) -> list[str]:
    """Store the records, and return their ids."""
    find_store(client.application).append(records)
    return [f"{record.pair.timestamp}-{record.pair.hash}" for record in records]


def read(client: Client, path: str) -> str:
    response = client.get(path, headers=HTML)
    assert response.status_code == 200, response.text
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    return str(response.text)


def read_section(page: str, title: str) -> str:
    """Return the part of a page from its heading to the next."""
    return re.split(r"<h[12]", page.partition(f"<h2>{title}</h2>")[2])[0]


def read_text(part: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", part)).split())


def test_copies_and_similar_webhooks_are_linked(client: Client) -> None:
    key = "a" * 32
    one, retry, similar, other = add(
        client,
        make(0, 7, b'{"id":1,"attempt":1}', key=key, query="v=1"),
        make(9000, 7, b'{"id":1,"attempt":2}', True, key=key),
        make(40, 8, b'{"id":2,"attempt":1}', True, key="b" * 32),
        make(50, 9, b'{"a":1,"b":2,"c":3}', key="c" * 32),
    )
    page = read(client, f"/webhooks/{one}")
    assert f'href="/webhooks?key={key}&amp;hash=7"' in page
    assert "v=1" in page
    copies, likely = read_section(page, "Copies"), read_section(page, "Similar webhooks")
    for section, linked, member in ((copies, retry, "/attempt"), (likely, similar, "/id")):
        assert f'href="/webhooks/{linked}"' in section
        assert f'href="/webhooks/{one}/compare/{linked}"' in section
        assert section.count("/compare/") == 1
        assert f"<code>{member}</code>" in section
    # Nothing is offered for a webhook without them, nor for a record without a key.
    alone, old = read(client, f"/webhooks/{other}"), add(client, make(99_000, 7, b"{}"))[0]
    for page in (alone, read(client, f"/webhooks/{old}")):
        assert "Copies" not in page
        assert "Similar" not in page
    rows = read(client, f"/webhooks?key={key}")
    assert [id_ in rows for id_ in (one, retry, similar)] == [True, True, False]


def test_bodies_and_headers_are_compared_side_by_side(client: Client) -> None:
    headers = {"content-type": "application/json", "x-request-id": "1"}
    one, other, spelled = add(
        client,
        make(0, 7, b'{"id":1,"n":{"attempt":1}}', key="a" * 32, headers=headers),
        make(5, 8, b'{"id":1,"n":{}}', headers={**headers, "x-request-id": "2"}),
        make(9, 9, b'{ "id": 1, "n": {"attempt": 1} }', key="a" * 32, headers=headers),
    )
    page = read(client, f"/webhooks/{one}/compare/{other}")
    assert "/n/attempt 1 absent" in read_text(read_section(page, "Body"))
    head = read_text(read_section(page, "Metadata"))
    assert "header x-request-id 1 2" in head
    assert f"key {'a' * 32} absent" in head
    assert "1 kept header is equal" in head
    assert "Their keys differ" in page
    page = read(client, f"/webhooks/{one}/compare/{spelled}")
    assert "they are copies of one webhook" in page
    assert "Only their spelling differs" in page
    assert "byte for byte" in read(client, f"/webhooks/{one}/compare/{one}")
    for path, status in ((f"{one}/compare/1-1", 404), ("1-1/compare/x", 404), (one + "/x/1", 404)):
        assert client.get(f"/webhooks/{path}", headers=HTML).status_code == status
    assert client.get(f"/webhooks/{one}/compare/x", headers=HTML).status_code == 400


def test_copies_are_shown_side_by_side(client: Client) -> None:
    key = "a" * 32
    ids = add(
        client,
        make(0, 7, b'{"id":1,"attempt":1}', key=key),
        make(9000, 7, b'{"id":1,"attempt":2}', True, key=key),
        make(9999, 7, b'{"id":1,"attempt":1}', key=key, headers={"x-a": HOSTILE}),
        make(10, 7, b'{"other":1}', key="b" * 32),
    )
    page = read(client, f"/webhooks/{ids[1]}/copies")
    assert f'href="/webhooks/{ids[0]}/copies"' in read(client, f"/webhooks/{ids[0]}")
    heads = re.findall(r'<th scope="col">([^<]*)</th>', page)
    assert heads == ["Record", "1", "2 (this one)", "3"]
    assert re.findall(r'href="/webhooks/(\d+-\d+)"', page) == ids[:3]
    text = read_text(page)
    assert "/attempt 1 2 1" in text
    assert "9 s later" in text
    assert "header x-a absent absent" in text
    assert page.count('class="other"') == 2
    assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", page)
    alone = read(client, f"/webhooks/{ids[3]}/copies")
    assert "No other record has this key." in alone
    assert client.get("/webhooks/1-1/copies", headers=HTML).status_code == 404


def test_a_webhook_can_be_copied_as_text(client: Client) -> None:
    small, large = add(
        client,
        make(0, 7, json.dumps({"x": HOSTILE}).encode(), headers={"x-a": "1"}),
        make(5, 8, b'{"x":"%s"}' % (b"y" * 70_000)),
    )
    page = read(client, f"/webhooks/{small}")
    line, curl = (
        html.unescape(t) for t in re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.S)
    )
    assert json.loads(line)["data"] == {"x": HOSTILE}
    assert 'curl --globoff "$URL"' in curl
    assert "-H 'x-a: 1'" in curl
    assert "textarea" not in read(client, f"/webhooks/{large}")


def test_everything_in_a_comparison_is_text(client: Client) -> None:
    one, other = add(
        client,
        make(0, 7, json.dumps({"x": HOSTILE, HOSTILE: 1}).encode(), headers={"x-a": HOSTILE}),
        make(5, 8, json.dumps({"x": "y"}).encode(), True, query=HOSTILE, rule=HOSTILE),
    )
    for path in (f"/webhooks/{one}", f"/webhooks/{other}", f"/webhooks/{one}/compare/{other}"):
        page = read(client, path)
        assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", page)
        assert "{{ 7 * 7 }}" in page
    assert html.escape(f"/{HOSTILE}".replace("</", "<~1"), quote=False)[:30] in page


def save_report(client: Client, **report: object) -> None:
    store = find_store(client.application)
    lease = store.acquire_lease("test", 0, 0)
    full = {"slave": "slave-1", "started": NOW, "saved": 9, **report}
    store.save_slave(lease, "slave-1", SlaveState(NOW, report=full))


def test_the_overview_names_the_members_that_differ_and_the_repeats(client: Client) -> None:
    save_report(client)
    page = read(client, "/")
    assert "Repeats 0" in read_text(page)
    assert "identity" not in page
    members = ["/attempt", f"/{HOSTILE}"]
    save_report(client, repeats=3, similar={"pay": members, "": ["/a"]})
    page = read(client, "/")
    assert "Repeats 3 recovered although the master had their key" in read_text(page)
    assert "differ from the master's only in /attempt" in read_text(page)
    assert 'href="/webhooks?source=pay"' in page
    assert 'href="/webhooks?source=-"' in page
    assert "docs/identity.md" in page
    assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", page)


@pytest.mark.parametrize("source", ["pay", "a.b", "-x-", "1", ""])
def test_the_suggested_rule_is_one_that_the_file_of_sources_accepts(
    source: str, tmp_path: Any
) -> None:
    members = ["/attempt", '/a/"b"', "/é~1\\"]
    path = tmp_path / "sources.toml"
    path.write_text(suggest_rule(source, members), "utf-8")
    ((name, row),) = read_sources_file(str(path)).items()
    assert (name, row.rule.without) == (source, tuple(sorted(members)))
