"""Slaves that break the protocol in every way: each is told apart, and holds up nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes.sync_nodes import Nodes, ask, fill, make_record, start, sync
from tests.support.requests.hostile_cases import CASES, FIRST, MOST_BYTES, MOST_RECORDS, NOW, serve


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One sync with all of them, and with a slave that does as it should."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    with Nodes(folder) as nodes, ExitStack() as stack:
        good = nodes.make_slave("good")
        records = fill(folder / "good", [make_record(n, NOW - 900_000 + n) for n in range(50)])
        hostile = {name: stack.enter_context(serve(case)) for name, case in CASES.items()}
        slaves = {name: slave.url for name, slave in hostile.items()}
        master = nodes.make_master(
            {**slaves, "nobody": "http://127.0.0.1:9", "good": good.url},
            SYNC_IDLE_S="1",
            SYNC_SLAVE_S="3",
            SYNC_SLAVE_RECORDS=str(MOST_RECORDS),
            SYNC_SLAVE_BYTES=str(MOST_BYTES),
        )
        start(good, master)
        answer = sync(master)
        again = ask(master, "POST", "/trigger-sync?slave=good")
        master.stop()
        yield {
            "status": answer.status,
            "ok": answer.body["ok"],
            "reports": {report["slave"]: report for report in answer.body["slaves"]},
            "again": again,
            "held": nodes.read(master),
            "good": records,
            "quarantine": nodes.read_quarantine(master),
        }


@pytest.mark.parametrize("name", CASES)
def test_what_the_report_says(result: dict[str, Any], name: str) -> None:
    case, report = CASES[name], result["reports"][name]
    assert re.fullmatch(case.error, report["error"]), report
    assert case.warning in report["warning"], report
    if case.saved >= 0:
        assert report["saved"] == case.saved
    else:
        assert report["saved"] > 0
    assert report["set_aside"] == case.set_aside


def test_limits_hold(result: dict[str, Any]) -> None:
    reports = result["reports"]
    assert reports["endless"]["records_received"] < 10 * MOST_RECORDS
    assert reports["endless-one"]["bytes_received"] < 60_000_000


def test_another_slave_is_synced_all_the_same(result: dict[str, Any]) -> None:
    assert result["status"] == 502
    assert result["ok"] is False
    assert "Is the node running?" in result["reports"]["nobody"]["error"]
    assert result["reports"]["good"]["saved"] == len(result["good"])
    assert {r.payload for r in result["good"]} <= {r.payload for r in result["held"]}
    assert result["again"].status == 200


def test_wrong_hashes_end_up_in_quarantine_whole(result: dict[str, Any]) -> None:
    aside = result["quarantine"]
    assert len(aside) == 3
    assert aside[-1].payload == b"{not JSON"
    assert all(record.meta.source == "source" for record in aside)
    # The answer was whole, so the cursor is past them: they hold up nothing.
    assert result["reports"]["hashes"]["cursor"] > FIRST + 4
