"""The demonstration holds, and its check can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firestore_emulator import use_emulator

BIN = Path(sys.executable).parent


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "webhook-sync"), "demo", "--webhooks", "200", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.mark.parametrize("store", ["sqlite", "firestore"])
def test_the_promises_hold(store: str) -> None:
    if store == "firestore":
        use_emulator()
    done = run_demo("--seed", "3", *(["--firestore"] if store == "firestore" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the promises hold" in done.stdout
    master = next(line for line in done.stdout.splitlines() if line.startswith("│ master"))
    _, _, missing, recovered, still_missing = (int(n) for n in re.findall(r"\b\d+\b", master))
    assert missing == recovered > 0
    assert still_missing == 0


def test_the_check_fails_where_the_sync_is_left_out() -> None:
    done = run_demo("--no-sync", "--remove-one")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "A PROMISE IS BROKEN" in done.stdout
