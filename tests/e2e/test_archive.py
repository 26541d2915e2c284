"""A day is archived, removed and imported again; a consumer that is behind loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portable_core.cli.main import main
from portable_core.demo.processes import NodeProcess
from portable_core.records import MAX_INTEGER, format_id
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Nodes,
    fill,
    make_record,
    now_ms,
    open_store,
    start,
    sync,
)
from tests.support.requests.sync_requests import Question, ask

DAY_MS = 86_400_000
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def run(master: NodeProcess, *arguments: str) -> Result:
    arguments = (*arguments, "--master", master.url)
    return CliRunner().invoke(main, arguments, env={"SYNC_TOKENS": TOKEN})


def read_digests(folder: Path) -> dict[str, tuple[int, str]]:
    manifest = json.loads((folder / "manifest.json").read_text())
    return {each["file"][:13]: (each["records"], each["lines"]) for each in manifest["stretches"]}


def register(master: NodeProcess, position: str) -> int:
    body = json.dumps({"position": position}).encode()
    answer = ask(master, Question("", "PUT", "/consumers/shop", BEARER, body))
    assert answer.status == 200
    lag: int = json.loads(answer.body)["lag_ms"]
    return lag


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def test_a_day_leaves_and_comes_back(nodes: Nodes, tmp_path: Path) -> None:
    begin = (now_ms() - 3 * DAY_MS) // DAY_MS * DAY_MS
    day = [make_record(n, begin + n * DAY_MS // 300, size=n) for n in range(300)]
    fill(nodes.folder / "alpha", [*day, make_record(300, now_ms() - 60_000)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
    start(master)
    register(master, "")
    assert sync(master).status == 200
    target = tmp_path / "archive"
    before = ("--before", "24h")

    behind = run(master, "archive", str(target), *before)
    assert (behind.exit_code, "shop: has got the records before" in behind.stderr) == (1, True)
    assert read_webhooks(master) == 301

    assert register(master, "now") == 0
    kept = run(master, "archive", str(target), *before, "--keep")
    assert (kept.exit_code, read_webhooks(master)) == (0, 301)
    done = run(master, "archive", str(target), *before)
    assert (done.exit_code, done.stderr) == (0, "")
    assert read_webhooks(master) == 1
    digests = read_digests(target)
    assert sum(count for count, _ in digests.values()) == 300
    assert sync(master).status == 200
    assert read_webhooks(master) == 1  # the slave still has all of them
    assert run(master, "verify", "--slave", "alpha").exit_code == 0

    assert run(master, "import", str(target), "--check").output.startswith("1 files with 300")
    back = run(master, "import", str(target))
    assert back.output == "300 webhooks stored, 0 were there, 0 were deleted before.\n"
    assert run(master, "import", str(target)).output.startswith("0 webhooks stored, 300 were")
    assert register(master, "now") == 0
    again = tmp_path / "again"
    assert run(master, "archive", str(again), *before).exit_code == 0
    assert read_digests(again) == digests

    gone = format_id(day[7].pair)
    erased = run(master, "webhooks", "delete", gone, "--archive", str(target))
    assert erased.output == f"{gone}: deleted in the archive\n"
    back = run(master, "import", str(target))
    assert back.output.startswith("299 webhooks stored")
    back = run(master, "import", str(again))
    assert back.output == "0 webhooks stored, 299 were there, 1 were deleted before.\n"
    assert sync(master).status == 200
    master.stop()
    slave.stop()
    with open_store(nodes.folder / "master") as store:
        found = [record.payload for record in store.records(0, MAX_INTEGER)]
    assert found[:-1] == [record.payload for record in day if record != day[7]]
    assert day[7].payload not in [record.payload for record in nodes.read(slave)]


def read_webhooks(master: NodeProcess) -> int:
    records: int = json.loads(ask(master, Question("", "GET", "/status", BEARER)).body)["store"][
        "records"
    ]
    return records
