"""The console's filters, its presets of time, and the volume of each source."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from portable_core.adapters.flask_app.console.volumes import OTHERS, make_charts
from portable_core.adapters.sqlite import SqliteStore
from portable_core.node import Node
from portable_core.ports import SourceVolume
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.settings import Settings
from portable_core.wiring import build_app
from tests.adapters.test_console import HTML, TOKEN, log_in

HOUR = 3_600_000
EVENTS = ("invoice.paid", "charge.failed")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A console over an indexed store: a webhook every ten minutes of the last two days."""
    nodes: list[Node] = []
    folder = tmp_path_factory.mktemp("search")
    env = {
        "STORE": f"sqlite:{folder}",
        "SYNC_TOKENS": "sync-token",
        "CONSOLE_TOKEN": TOKEN,
        "SOURCES": "pay=stripe:whsec_x",
        "SLAVES": "alpha=http://127.0.0.1:1,beta=http://127.0.0.1:1",
    }
    app = build_app(Settings.from_env("master", env), nodes.append, serving=True)
    now = time.time_ns() // 1_000_000
    records = []
    for number in range(288):
        body = b'{"id":"evt_%d","type":"%s"}' % (number, EVENTS[number % 2].encode())
        meta = Meta("pay" if number % 3 else "shop", key=f"{number // 2:032x}")
        recovery = Recovery("alpha", now) if number % 4 == 0 else None
        records.append(Record(Pair(now - number * 600_000 - 5, number), body, meta, recovery))
    store = nodes[0].receiver.store
    assert isinstance(store, SqliteStore)
    store.append(records)
    store.finish_index()
    client = app.test_client()
    log_in(client)
    yield client
    nodes[0].close()


def list_numbers(client: Any, query: str) -> list[int]:
    """Return the numbers of the webhooks that the list shows."""
    page = client.get(f"/webhooks?{query}", headers=HTML).text
    return [int(number) for number in re.findall(r'href="/webhooks/\d+-(\d+)"', page)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("last=1h", range(6)),
        ("last=1h&origin=recovered", (0, 4)),
        ("last=1h&origin=direct&source=pay", (1, 2, 5)),
        ("source=pay&event=invoice.paid&last=2h", (2, 4, 8, 10)),
        ("slave=alpha&last=2h", (0, 4, 8)),
        ("slave=beta", ()),
        (f"key={5:032x}", (10, 11)),
    ],
)
def test_filters(client: Any, query: str, expected: Any) -> None:
    assert list_numbers(client, query) == list(expected)


def test_an_id_of_the_provider_in_the_body_is_found(client: Any) -> None:
    assert list_numbers(client, "id=evt_7&source=pay") == [7]
    assert list_numbers(client, "id=evt_9") == []  # of a source whose preset is not known


def test_the_form_keeps_its_values_and_suggests_names(client: Any) -> None:
    page = client.get("/webhooks?last=24h&origin=direct&event=a%22b", headers=HTML).text
    assert '<option value="24h" selected>' in page
    assert '<option value="direct" selected>' in page
    assert 'value="a&#34;b"' in page
    assert all(f'<option value="{name}">' in page for name in ("pay", "alpha", "beta"))


def test_a_link_adds_a_filter_and_begins_with_the_newest(client: Any) -> None:
    page = client.get("/webhooks?last=7d&before=9999999999999-1", headers=HTML).text
    assert 'href="/webhooks?last=7d&amp;event=invoice.paid"' in page
    assert 'href="/webhooks?event=invoice.paid"' in client.get("/", headers=HTML).text


@pytest.mark.parametrize("query", ["last=1", "last=1w", "last=-1h", "origin=other"])
def test_invalid_filters(client: Any, query: str) -> None:
    answer = client.get(f"/webhooks?{query}", headers=HTML)
    assert answer.status_code == 400
    assert f"{query.partition('=')[0]}: must be " in answer.text


def test_the_overview_shows_the_volume_of_each_source(client: Any) -> None:
    page = client.get("/", headers=HTML).text
    section = page[page.index('aria-label="Source pay"') : page.index('aria-label="Source shop"')]
    found = re.search(r"hour: (\d+) webhooks received, (\d+) recovered", section)
    assert found is not None
    direct, recovered = map(int, found.groups())
    # The first of the 24 hours is whole; the current one is not.
    assert 23 * 6 * 2 / 3 <= direct + recovered <= 24 * 6 * 2 / 3 + 1
    assert 0 < recovered < direct
    bars = re.findall(r"<title>[^<]*: (\d+) received, (\d+) recovered</title>", section)
    assert sum(int(a) + int(b) for a, b in bars) == direct + recovered


def test_small_sources_are_charted_together() -> None:
    volumes = {
        0: {f"s{number}": SourceVolume(100 - number, 0) for number in range(12)},
        HOUR: {OTHERS: SourceVolume(1, 2), "s11": SourceVolume(0, 500)},
    }
    charts = make_charts(volumes, [0, HOUR, 2 * HOUR])
    assert [chart.name for chart in charts] == ["s11", *(f"s{n}" for n in range(7)), OTHERS]
    assert [(bar.direct, bar.recovered) for bar in charts[0].bars] == [(89, 0), (0, 500), (0, 0)]
    assert charts[-1].direct == sum(100 - number for number in range(7, 11)) + 1
    assert (charts[-1].recovered, charts[-1].is_rest, charts[0].tallest) == (2, True, 500)
    assert make_charts({}, [0]) == []


def test_a_store_without_an_index_shows_no_charts() -> None:
    env = {"STORE": "memory:", "SYNC_TOKENS": "sync-token", "CONSOLE_TOKEN": TOKEN}
    client = build_app(Settings.from_env("master", env)).test_client()
    log_in(client)
    client.post("/webhook/shop", json={"n": 1})
    assert "<h2>Sources</h2>" not in client.get("/", headers=HTML).text
