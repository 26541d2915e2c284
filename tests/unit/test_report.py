"""Reports of syncs: their JSON form, and what older releases stored."""

from __future__ import annotations

import json
from dataclasses import fields

import msgspec
import pytest

from portable_core.documents import convert_document
from portable_core.errors import SlaveUnreachable, StreamCut
from portable_core.ports import SlaveState
from portable_core.sync.progress import Progress
from portable_core.sync.report import (
    HOUR_MS,
    HourCounts,
    SlaveReport,
    StoredReport,
    SyncReport,
    extend_day,
    read_report,
)

#: The last report of a slave as the first release stored it, without the types of errors.
OLD = {
    "slave": "alpha",
    "started": 1_795_481_383_002,
    "windows": 3,
    "cut": 1,
    "pairs_sent": 7,
    "records_received": 5,
    "saved": 4,
    "represented": 1,
    "set_aside": 0,
    "bytes_sent": 99,
    "bytes_received": 1234,
    "seconds": 0.25,
    "cursor": 1_795_481_000_000,
    "behind_ms": 1000,
    "skew_ms": -3,
    "horizon": 1_795_481_382_000,
    "encoding": "application/vnd.msgpack",
    "warning": "Stream cut: the stream ended",
    "error": "Slave unreachable: slave alpha: no connection",
    "day": [[498744, 3, 0], [498745, 1, 4]],
}


def test_a_report_of_an_older_release_is_read() -> None:
    report = read_report(SlaveState(report=OLD))
    assert report.day == [HourCounts(498744, 3, 0), HourCounts(498745, 1, 4)]
    assert (report.error_type, report.warning_type, report.ok) == ("", "", False)
    assert msgspec.to_builtins(report) == {
        **OLD,
        "error_type": "",
        "warning_type": "",
        "losses": 0,
        "repeats": 0,
        "again": 0,
        "again_at": (),
        "reached": 0,
        "similar": {},
        "parts": 0,
        "expected_collisions": 0.0,
    }


def test_members_of_a_later_release_are_ignored() -> None:
    assert read_report(SlaveState(report={**OLD, "more": [1]})) == read_report(
        SlaveState(report=OLD)
    )


@pytest.mark.parametrize("report", [{}, {"started": "yesterday"}, {"day": 7}, {"day": [[]]}])
def test_without_a_report_that_can_be_read_there_was_no_turn(report: dict[str, object]) -> None:
    assert read_report(SlaveState(report=report)) == StoredReport("")


def test_a_report_has_every_field_of_the_progress() -> None:
    names = {field.name for field in fields(Progress)}
    assert names == {*SlaveReport.__struct_fields__, "missed", "refused", "completed"}
    progress = Progress("alpha", 5, saved=3, cursor=7)
    progress.missed[1] = 2
    assert progress.report() == SlaveReport("alpha", 5, saved=3, cursor=7)


def test_a_report_names_the_type_of_its_error() -> None:
    progress = Progress("alpha")
    progress.warn(StreamCut("the stream ended"))
    progress.fail(SlaveUnreachable("no connection"))
    report = progress.report()
    assert (report.warning, report.warning_type) == ("Stream cut: the stream ended", "StreamCut")
    assert (report.error, report.error_type) == (
        "Slave unreachable: no connection",
        "SlaveUnreachable",
    )
    progress.warn("a limit was reached")
    assert (progress.warning, progress.warning_type) == ("a limit was reached", "")


def test_a_sync_report_through_json() -> None:
    report = SyncReport(5, 0.123456, [SlaveReport("a", seconds=1.23456), SlaveReport("b")])
    document = json.loads(json.dumps(report.to_json()))
    assert (document["ok"], document["seconds"], document["slaves"][0]["seconds"]) == (
        True,
        0.123,
        1.235,
    )
    assert convert_document(document, SyncReport).to_json() == document
    failed = SyncReport(5, 0.0, [SlaveReport("a"), SlaveReport("b", error="x")])
    assert failed.to_json()["ok"] is False
    with pytest.raises(ValueError, match=r"^slaves\[1\]\.saved: must be int >= 0$"):
        convert_document({**document, "slaves": [OLD, {**OLD, "saved": -1}]}, SyncReport)


def test_a_day_by_the_hour() -> None:
    def read(day: list[HourCounts]) -> object:
        return msgspec.to_builtins(day)

    now = 1000 * HOUR_MS + 5
    day = extend_day((), now, {1000: 2, 997: 3}, 5)
    assert read(day) == [[997, 3, 0], [1000, 2, 5]]
    day = extend_day(day, now + HOUR_MS, {997: 1}, 1)
    assert read(day) == [[997, 4, 0], [1000, 2, 5], [1001, 0, 1]]
    assert read(extend_day(day, now + 22 * HOUR_MS, {}, 0)) == [[1000, 2, 5], [1001, 0, 1]]
    assert extend_day(day, now + 90 * HOUR_MS, {5: 7}, 0) == []
