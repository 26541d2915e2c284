"""The demonstration holds, and its check can fail."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.support.firestore_emulator import use_emulator

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


def test_a_command_line_that_is_not_understood_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run_demo("--firestore", "--remove-one").returncode == 2
    assert list(tmp_path.iterdir()) == []


def read_console(url: str, token: str) -> str:
    """The console's first page, after a login."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    login = browser.open(f"{url}login", timeout=30).read().decode()
    csrf = re.search(r'name="csrf" value="([^"]+)"', login)
    assert csrf is not None
    form = urllib.parse.urlencode({"csrf": csrf[1], "token": token}).encode()
    with browser.open(f"{url}login", form, timeout=30) as page:
        return str(page.read().decode())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_kept_nodes_are_shown_by_a_console_that_opens_and_end_with_the_demo(
    end: signal.Signals,
) -> None:
    command = [str(BIN / "webhook-sync"), "demo", "--webhooks", "20", "--keep"]
    demo = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    said = []
    try:
        for line in demo.stdout:
            said.append(line)
            if "The console:" in line:
                break
        console = re.search(r"(http://127\.0\.0\.1:\d+/) \(console token (\S+)\)", said[-1])
        assert console is not None, "".join(said)
        slave = re.search(r"slave-2 at (http://127\.0\.0\.1:\d+) ", "".join(said))
        assert slave is not None, "".join(said)
        with urllib.request.urlopen(f"{slave[1]}/health", timeout=30) as answer:
            assert answer.status == 200
        assert "Everything is in." in read_console(console[1], console[2])
        demo.send_signal(end)
        rest, _ = demo.communicate(timeout=60)
        assert demo.returncode == 0, "".join(said) + rest
        folder = re.search(r"stores and logs are in\s+(\S+)", rest)
        assert folder is not None, rest
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(console[1], timeout=5)
        shutil.rmtree(folder[1])
    finally:
        demo.kill()
        demo.wait()
