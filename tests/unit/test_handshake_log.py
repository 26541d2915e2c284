"""The log of handshakes: helpful for an operator, and no way to fill a disk."""

from __future__ import annotations

import logging

import pytest

from portable_core.ingest.admission import Admission
from portable_core.settings import Settings
from portable_core.sources.handshakes import Answer


def test_many_handshakes_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    admission = Admission(Settings.from_env("slave", {"SYNC_AUTH": "none"}))
    for number in range(5000):
        admission.report_handshake("noisy", Answer(200, (), b"", f"secret-{number}"))
    assert 50 <= len(caplog.records) <= 2 * 60
    admission.report_handshake("other", Answer(204, (), b"", "chosen"))
    last = [record.getMessage() for record in caplog.records[-2:]]
    assert last == [
        "source 'other': answered a handshake with 204 (number 1)",
        "source 'other': the provider sent this secret: chosen. Enter it where the provider asks "
        "for it, or in SOURCES.",
    ]
