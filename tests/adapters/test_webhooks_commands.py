"""``webhooks list`` and ``tail`` against a master in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from portable_core.cli.main import main
from portable_core.node import Node
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.settings import Settings
from portable_core.webhooks import search
from portable_core.webhooks.search import Effort
from portable_core.wiring import build_app

START = 1_795_597_200_000


@dataclass
class Served:
    url: str
    node: Node

    def run(self, *arguments: str) -> Result:
        options = ("--master", self.url, "--token", "sync-token")
        return CliRunner().invoke(main, ["webhooks", *arguments, *options])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    nodes: list[Node] = []
    env = {"STORE": "memory:", "SYNC_TOKENS": "sync-token", "SPAN_S": "1"}
    app = build_app(Settings.from_env("master", env), nodes.append, serving=True)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    records = []
    for number in range(1200):
        event = "release" if number % 300 == 7 else "push"
        meta = Meta("github", {"x-github-event": event, "x-github-delivery": f"d-{number}"})
        recovery = Recovery("alpha" if number % 2 else "beta", 5) if number % 4 < 2 else None
        pair = Pair(START + number, number)
        records.append(Record(pair, b'{"n":%d}' % number, meta, recovery))
    nodes[0].receiver.store.append(records)
    yield Served(f"http://127.0.0.1:{server.port}", nodes[0])
    server.shutdown()
    thread.join()
    nodes[0].close()


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches that stop after few records."""
    monkeypatch.setattr(search.Effort.__init__, "__defaults__", (200_000, 300, 2**20))
    assert Effort().records == 300


def list_numbers(result: Result) -> list[int]:
    assert result.exit_code == 0, result.output
    return [int(line.split()[0].partition("-")[2]) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("short_pages")
def test_a_search_goes_on_and_reports_how_far_it_looked(served: Served) -> None:
    result = served.run("list", "--event", "release")
    assert list_numbers(result) == [907, 607, 307, 7]
    assert result.stderr == "Everything searched, 1200 records read.\n"
    result = served.run("list", "--event", "release", "--limit", "2")
    assert list_numbers(result) == [907, 607]
    assert "2026-11-25 " in result.stderr
    before = result.stderr.split()[-1]
    assert list_numbers(served.run("list", "--event", "release", "--before", before)) == [307, 7]
    page = json.loads(served.run("list", "--event", "release", "--json").stdout)
    assert [row["event"] for row in page["webhooks"]] == ["release"] * 4
    assert (page["before"], page["complete"], page["looked_at"]) == (None, True, 1200)


def test_the_limit_may_be_larger_than_a_page(served: Served) -> None:
    assert list_numbers(served.run("list", "--limit", "1100")) == list(range(1199, 99, -1))
    assert len(list_numbers(served.run("list", "--limit", "5000"))) == 1200


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--recovered",), lambda n: n % 4 < 2),
        (("--direct", "--event", "release"), lambda n: n % 300 == 7 and n % 4 >= 2),
        (("--slave", "alpha"), lambda n: n % 4 == 1),
        (("--id", "d-77"), lambda n: n == 77),
        (("--id", "d-77", "--slave", "beta"), lambda n: False),
    ],
)
def test_filters(served: Served, options: tuple[str, ...], wanted: object) -> None:
    assert callable(wanted)
    expected = [number for number in range(1199, -1, -1) if wanted(number)]
    assert list_numbers(served.run("list", "--limit", "2000", *options)) == expected


def test_tail_shows_webhooks_as_they_arrive(served: Served) -> None:
    results: list[Result] = []

    def follow() -> None:
        results.append(served.run("tail", "--source", "shop", "--limit", "2", "--json"))

    thread = threading.Thread(target=follow)
    thread.start()
    store = served.node.receiver.store
    number = 0
    while thread.is_alive() and number < 600:  # it may begin at any of them
        store.append(
            [
                Record(Pair(START + 10_000 + number, number), b'{"n":1}', Meta("shop")),
                Record(Pair(START + 10_000 + number, number + 10_000), b'{"n":2}', Meta("other")),
            ]
        )
        number += 1
        time.sleep(0.05)
    thread.join()
    first, second = map(json.loads, results[0].stdout.splitlines())
    assert int(second["id"].partition("-")[2]) == int(first["id"].partition("-")[2]) + 1
    assert (first["source"], first["came"], first["raw"]) == ("shop", "direct", "eyJuIjoxfQ==")
    result = served.run("tail", "--after", "", "--limit", "1")
    assert "d-" not in result.stdout
    assert '{"n":0}' in result.stdout
