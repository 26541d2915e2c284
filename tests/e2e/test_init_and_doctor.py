"""From nothing to two nodes by the files of ``init``; and ``doctor``, when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.cli.options import parse_env_file
from portable_core.demo.processes import find_free_port
from portable_core.doctor import examine
from portable_core.errors import SettingsError
from tests.support.nodes.senders import ask_until_it_listens

COMMAND = (sys.executable, "-P", "-m", "portable_core")


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, env=env
    )


@contextmanager
def serving(folder: Path, role: str, port: int) -> Iterator[Path]:
    """Serve a node with the settings of its file; yield its log."""
    log = folder / f"{role}.log"
    with log.open("wb") as output:
        node = subprocess.Popen(
            [*COMMAND, "serve", "--role", role, "--host", "127.0.0.1", "--env-file", f"{role}.env"],
            cwd=folder,
            stdout=output,
            stderr=output,
            env={},
        )
    try:
        assert ask_until_it_listens(f"http://127.0.0.1:{port}/health") == 200, log.read_text()
        yield log
    finally:
        node.terminate()
        node.wait(15)


def post(port: int, payload: bytes) -> int:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/webhook/a", payload, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def test_two_nodes_by_the_files_of_init_recover_a_webhook(tmp_path: Path) -> None:
    ports = find_free_port(), find_free_port()
    done = run(tmp_path, "init", "slave", "--port", str(ports[0]))
    assert done.returncode == 0, done.stderr
    file = tmp_path / "slave.env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(parse_env_file(file)["SYNC_TOKENS"]) not in done.stdout
    again = run(tmp_path, "init", "slave")
    assert (again.returncode, again.stderr) == (
        1,
        "Error: --file: slave.env exists. Name another file, or remove it.\n",
    )
    slaves = f"alpha=http://127.0.0.1:{ports[0]}"
    wanted = ("init", "master", "--token-from", "slave.env", "--port", str(ports[1]))
    wrong = run(tmp_path, *wanted, "--slaves", "alpha")
    assert (wrong.returncode, "SLAVES: " in wrong.stderr) == (1, True)
    assert not (tmp_path / "master.env").exists()
    assert run(tmp_path, *wanted, "--slaves", slaves).returncode == 0
    with (tmp_path / "master.env").open("a") as settings:
        settings.write("SPAN_S=1\n")
    with file.open("a") as settings:
        settings.write("SPAN_S=1\n")

    examined = run(tmp_path, "doctor", "--role", "master", "--env-file", "master.env", "--json")
    assert examined.returncode == 1  # the slave does not run yet
    with serving(tmp_path, "slave", ports[0]):
        assert post(ports[0], b'{"a":1}') == 200
        time.sleep(1.5)
        examined = run(tmp_path, "doctor", "--role", "master", "--env-file", "master.env")
        assert examined.returncode == 0, examined.stdout
        assert "ok       slave alpha: reachable; span, hash and identity rules agree" in (
            examined.stdout
        )
        with serving(tmp_path, "master", ports[1]) as log:
            deadline = time.monotonic() + 30
            while "slave alpha: 1 webhooks recovered" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)

        # One thing after the other is wrong.
        for changes, level, text in (
            ({"SYNC_TOKENS": "another"}, "fault", "answered 401"),
            ({"SPAN_S": "2"}, "fault", "set the same SPAN_S"),
            ({"HASH": "blake2b", "HASH_KEY": "k"}, "fault", "made with another HASH"),
            ({"SOURCES_FILE": "rules.toml"}, "fault", "SOURCES_FILE"),
            ({"SLAVES": "beta=http://127.0.0.1:9"}, "fault", "no connection"),
            ({"STORE": "memory:", "SLAVES": " "}, "ok", "a master would start"),
        ):
            options = ("doctor", "--role", "master", "--env-file", "master.env", "--json")
            examined = run(tmp_path, *options, **changes)
            lines = [json.loads(line) for line in examined.stdout.splitlines()]
            assert examined.returncode == (level == "fault"), examined.stdout
            if "made with" not in text:
                assert any(text in line["text"] and line["level"] == level for line in lines), lines


def test_a_node_behind_a_proxy_of_its_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "init", "slave", "--behind-proxy", "--file", "new/folder/slave.env")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "new/folder/slave.env"
    assert file.parent.stat().st_mode & 0o777 == 0o700
    settings = parse_env_file(file)
    assert (settings["HOST"], settings["TRUSTED_PROXIES"]) == ("127.0.0.1", "127.0.0.1")
    with file.open("a") as lines:
        lines.write("SOURCES=hub=github:SECRET\n")
    done = run(tmp_path, "init", "master", "--token-from", str(file), "--file", "master.env")
    assert done.returncode == 0, done.stderr
    of_master = parse_env_file(tmp_path / "master.env")
    assert of_master["SOURCES"] == "hub=github:SECRET"
    assert of_master["SYNC_TOKENS"] == settings["SYNC_TOKENS"]
    assert "HOST" not in of_master


@pytest.mark.parametrize(("hard", "level"), [(20_000, "ok"), (1024, "warning")])
def test_doctor_examines_the_limit_to_which_a_node_raises_its_own(
    monkeypatch: pytest.MonkeyPatch, hard: int, level: str
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, hard))
    env = {"STORE": "memory:", "ALLOW_EPHEMERAL": "1", "SYNC_TOKENS": "secret"}
    (finding,) = (each for each in examine("slave", env) if each.subject == "open files")
    assert (finding.level, f"a limit of {hard}" in finding.text) == (level, True)


@pytest.mark.parametrize("text", ["NO VALUE", "1A=x", "export A=b", "=x"])
def test_a_line_that_is_no_setting_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.env"
    file.write_text(f"# first\n{text}\n")
    with pytest.raises(SettingsError, match="line 2 is not NAME=VALUE"):
        parse_env_file(file)


def test_a_file_of_settings_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text('# a\n; b\n\n A=1\nB="two words"\nC=\'x=y\'\nD=\nE="\n')
    assert parse_env_file(file) == {"A": "1", "B": "two words", "C": "x=y", "D": "", "E": '"'}
