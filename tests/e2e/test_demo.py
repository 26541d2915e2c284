"""The demonstration: nothing is lost, also from an installed wheel, and its check can fail."""

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

from portable_core.demo.run import stop_on_signals
from tests.support.firestore_emulator import use_emulator
from tests.support.wheel import build_wheel, install_wheel

BIN = Path(sys.executable).parent


def run_demo(*arguments: str, bin: Path = BIN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(bin / "webhook-sync"), "demo", "--webhooks", "60", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "COLUMNS": "120"},
    )


def check_nothing_is_lost(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the promises hold" in done.stdout
    master = next(line for line in done.stdout.splitlines() if line.startswith("│ master"))
    _, _, missing, recovered, still_missing = (int(n) for n in re.findall(r"\b\d+\b", master))
    assert missing == recovered > 0
    assert still_missing == 0


@pytest.mark.parametrize("kind", ["container", pytest.param("function", marks=pytest.mark.deep)])
def test_nothing_is_lost_by_an_installed_wheel(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = ["functions"] if kind == "function" else []
    bin = install_wheel(build_wheel(tmp_path / "wheel"), tmp_path / "env", extras=extras)
    monkeypatch.chdir(tmp_path)
    done = run_demo("--seed", "3", bin=bin)
    check_nothing_is_lost(done)
    assert re.search(rf"│ slave-1 │ {kind} ", done.stdout)
    reported = "slave-1 runs as a container: functions-framework is not installed" in done.stdout
    assert reported == (kind == "container")
    if kind == "function":
        readme = (Path(__file__).parents[2] / "README.md").read_text()
        [shown] = re.findall(r"```\n(Webhooks by node.*?)```", readme, re.DOTALL)
        assert set(mask_figures(shown)) <= set(mask_figures(done.stdout))


def mask_figures(output: str) -> list[str]:
    """The lines with text, without their figures and the widths of their columns."""
    lines = [
        " ".join(re.sub(r"\d+( by master)?", "N", line).split()) for line in output.splitlines()
    ]
    return [line for line in lines if re.search(r"\w", line)]


def test_nothing_is_lost_on_firestore() -> None:
    use_emulator()
    check_nothing_is_lost(run_demo("--seed", "3", "--firestore"))


@pytest.mark.deep
def test_what_no_node_received_is_in_the_providers_log() -> None:
    done = run_demo("--seed", "3", "--provider-log")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = " ".join(done.stdout.split())
    assert "has 50 of them from the provider's delivery log, by 53 requests" in shown
    assert "The next sync made 0" in shown


def test_the_check_fails_without_a_sync() -> None:
    done = run_demo("--no-sync", "--remove-one")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "A PROMISE IS BROKEN" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"), [(("--firestore", "--remove-one"), 2), (("--firestore",), 1)]
)
def test_a_demo_that_cannot_start_leaves_nothing(
    arguments: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # without node, which runs the emulator
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    done = run_demo(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert code == 2 or done.stderr.startswith("Error: FIRESTORE_EMULATOR_HOST: not set")
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


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.deep),
        pytest.param(signal.SIGHUP, marks=pytest.mark.deep),
    ],
)
def test_kept_nodes_are_shown_by_a_console_that_opens_and_end_with_the_demo(
    number: signal.Signals,
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
    lines = []
    try:
        for line in demo.stdout:
            lines.append(line)
            if "The console:" in line:
                break
        console = re.search(r"(http://127\.0\.0\.1:\d+/) \(console token (\S+)\)", lines[-1])
        assert console is not None, "".join(lines)
        slave = re.search(r"slave-2 at (http://127\.0\.0\.1:\d+) ", "".join(lines))
        assert slave is not None, "".join(lines)
        with urllib.request.urlopen(f"{slave[1]}/health", timeout=30) as answer:
            assert answer.status == 200
        assert "The master is complete." in read_console(console[1], console[2])
        demo.send_signal(number)
        rest, _ = demo.communicate(timeout=60)
        assert demo.returncode == 0, "".join(lines) + rest
        folder = re.search(r"stores and logs are in\s+(\S+)", rest)
        assert folder is not None, rest
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(console[1], timeout=5)
        shutil.rmtree(folder[1])
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_demo_like_ctrl_c(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        stop_on_signals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        stop_on_signals()
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
