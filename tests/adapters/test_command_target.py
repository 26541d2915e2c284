"""Delivery to a command: what it gets, and what its exit code means."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from portable_core.adapters.command_target import CommandTarget
from portable_core.webhooks.delivery_policy import classify
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Attempt
from portable_core.webhooks.feed_webhook import Webhook

WEBHOOK = Webhook(
    position="p",
    id="5-7",
    key="k" * 32,
    repeat=True,
    source="shop",
    event="push",
    timestamp=5,
    headers={"x-a": "caf\u00e9"},
    query="a=\u00e9&b",
    payload=b'{"a": 12.0}\x00\n' * 50_000,
    via="github",
)


def run(code: str, *arguments: str, timeout_s: float = 20) -> Outcome:
    command = CommandTarget([sys.executable, "-c", code, *arguments], timeout_s)
    with command() as send:
        return send(Attempt(1, WEBHOOK, 3))


def test_the_command_gets_the_payload_and_the_metadata(tmp_path: Path) -> None:
    code = (
        "import json, os, sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read());"
        "json.dump({k: v for k, v in os.environ.items() if k.startswith('WEBHOOK_')},"
        "open(sys.argv[2], 'w'))"
    )
    assert run(code, str(tmp_path / "payload"), str(tmp_path / "environment")).ok
    assert (tmp_path / "payload").read_bytes() == WEBHOOK.payload
    environment = json.loads((tmp_path / "environment").read_text())
    assert json.loads(environment.pop("WEBHOOK_HEADERS")) == WEBHOOK.headers
    assert environment == {
        "WEBHOOK_ID": "5-7",
        "WEBHOOK_KEY": "k" * 32,
        "WEBHOOK_SOURCE": "shop",
        "WEBHOOK_EVENT": "push",
        "WEBHOOK_TIMESTAMP": "5",
        "WEBHOOK_REPEAT": "1",
        "WEBHOOK_QUERY": "a=%E9&b",
        "WEBHOOK_VIA": "github",
        "WEBHOOK_ATTEMPT": "3",
    }


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("", "delivered", "exit code 0"),
        ("raise SystemExit(1)", "temporary", "exit code 1"),
        ("raise SystemExit(75)", "temporary", "exit code 75"),
        ("raise SystemExit(65)", "rejected", "exit code 65"),
        ("raise SystemExit(66)", "rejected", "exit code 66"),
        ("import os; os.kill(os.getpid(), 9)", "temporary", "ended by signal 9"),
    ],
)
def test_what_an_exit_code_means(code: str, kind: str, reason: str) -> None:
    outcome = run(code)
    assert (classify(outcome), outcome.reason) == (kind, reason)


def test_a_command_without_end_is_ended_with_its_children() -> None:
    started = time.monotonic()
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    outcome = run(code, timeout_s=0.5)
    assert (outcome.status, outcome.reason) == (0, "no end within 0.5 s")
    assert time.monotonic() - started < 10


def test_a_command_that_is_gone_is_a_temporary_failure() -> None:
    with CommandTarget(["/nonexistent/command"])() as send:
        outcome = send(Attempt(1, WEBHOOK, 1))
    assert classify(outcome) == "temporary"
    assert "No such file" in outcome.reason
