"""What a master's log says of a sync that failed."""

from __future__ import annotations

import logging

import pytest

from portable_core.adapters.logs import LogObserver
from portable_core.errors import MalformedStream
from portable_core.settings import Settings
from portable_core.sync.progress import Progress
from portable_core.sync.report import SlaveReport, SyncReport
from portable_core.wiring import build_app

BEARER = {"Authorization": "Bearer a-token"}


def read_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]


def test_each_slave_that_cannot_be_synced_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    slaves = "alpha=http://127.0.0.1:1,beta=http://127.0.0.1:2"  # nobody listens there
    env = {"SLAVES": slaves, "SYNC_TOKENS": "a-token", "STORE": "memory:"}
    client = build_app(Settings.from_env("master", env)).test_client()
    assert client.post("/trigger-sync", headers=BEARER).status_code == 502
    alpha, beta = sorted(read_warnings(caplog))
    assert alpha.startswith("slave alpha: Slave unreachable: ")
    assert beta.startswith("slave beta: Slave unreachable: ")
    metrics = client.get("/metrics", headers=BEARER).text
    assert 'webhook_sync_sync_runs_total{outcome="failed",slave="alpha"} 1.0' in metrics


def test_a_slave_that_was_synced_is_none(caplog: pytest.LogCaptureFixture) -> None:
    LogObserver().observe_sync(SyncReport(0, 0.0, [SlaveReport("alpha", warning="clock: differs")]))
    assert read_warnings(caplog) == []


def test_what_an_answer_held_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    error = MalformedStream("hash: must be an integer (got 'part of a payload')", 7)
    progress = Progress("alpha")
    progress.fail(error)
    LogObserver().observe_sync(SyncReport(0, 0.0, [progress.report()]))
    assert read_warnings(caplog) == ["slave alpha: Malformed stream: its report says where"]
