"""``webhook-sync hash``: what it prints and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from portable_core import hash_payload
from portable_core.cli.main import main


def run(*arguments: str, payload: bytes = b"", key: str | None = None) -> tuple[int, bytes, str]:
    result = CliRunner(env={"HASH_KEY": key}).invoke(main, ["hash", *arguments], input=payload)
    return result.exit_code, result.stdout_bytes, result.stderr


def test_standard_input() -> None:
    one = run(payload=b'{"b":1,"a":[true,null]}')
    other = run(payload=b' {"a" : [true,null], "b":1}\n')
    assert one == other == (0, b"%d\n" % hash_payload(b'{"a":[true,null],"b":1}'), "")
    assert run("-", payload=b"{}") == run(payload=b"{}")


def test_canonical_bytes() -> None:
    payload = rb'{"b":1.50,"a":"\ud83d\u00e9"}'
    assert run("--canonical", payload=payload) == (0, '{"a":"\\ud83dé","b":1.5}\n'.encode(), "")


def test_shells_complete_the_names_of_files() -> None:
    found = ShellComplete(main, {}, "webhook-sync", "_COMPLETE").get_completions(["hash"], "a")
    assert [item.type for item in found] == ["file"]


def test_algorithm_and_key() -> None:
    expected = hash_payload(b"{}", "blake2b", b"secret")
    assert run("--algorithm", "blake2b", payload=b"{}", key="secret")[1] == b"%d\n" % expected
    assert run("--algorithm", "md5")[0] == 2


def test_files(tmp_path: Path) -> None:
    good, bad, missing = (tmp_path / name for name in ("good.json", "bad.json", "missing.json"))
    good.write_bytes(b'{"a":1}')
    bad.write_bytes(b'{"a":01}')
    number = hash_payload(b'{"a":1}')
    assert run(str(good)) == (0, b"%d\n" % number, "")
    code, output, errors = run(str(bad), str(good), str(missing))
    assert (code, output) == (1, f"{number}  {good}\n".encode())
    assert errors.splitlines() == [
        f"webhook-sync hash: {bad}: expected ',' or '}}' (at byte 6)",
        f"webhook-sync hash: {missing}: No such file or directory",
    ]


def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    names = [folder + b"/\xff.json", folder + b"/line\nbreak.json"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"{}")
    done = subprocess.run(
        [sys.executable, "-m", "portable_core", "hash", *names, folder + b"/no\nfile"],
        capture_output=True,
        timeout=60,
    )
    number = hash_payload(b"{}")
    assert done.stdout == b"".join(b"%d  %b\n" % (number, name) for name in names)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


@pytest.mark.parametrize("key", [None, "", "\udcff", "a\nkey"])
def test_a_keyed_algorithm_needs_a_key_as_on_a_node(key: str | None) -> None:
    code, output, errors = run("--algorithm", "blake2b", payload=b"{}", key=key)
    assert (code, output) == (2, b"")
    assert "HASH_KEY" in errors


@pytest.mark.parametrize("payload", [b"", b"[1]", b"payload=%7B%7D", b'{"a":\xff}'])
def test_malformed_payloads_are_one_line_and_exit_1(payload: bytes) -> None:
    command = [sys.executable, "-m", "portable_core", "hash"]
    result = subprocess.run(command, input=payload, capture_output=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"webhook-sync hash: standard input: ")
    assert result.stderr.count(b"\n") == 1


def test_it_loads_no_web_framework() -> None:
    code = (
        "import sys; from portable_core.cli.main import main\n"
        "main(['hash'], standalone_mode=False)\n"
        "print({'flask', 'aiohttp', 'grpc', 'uvloop', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], input=b"{}", capture_output=True, timeout=60
    )
    assert result.stdout.split() == [b"%d" % hash_payload(b"{}"), b"set()"]


def test_json_is_a_line_for_each_payload(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_bytes(b'{"a":1}')
    code, output, _ = run("--json", str(file), "-", payload=b"{}")
    assert code == 0
    assert [json.loads(line) for line in output.splitlines()] == [
        {"file": str(file), "hash": hash_payload(b'{"a":1}')},
        {"file": "-", "hash": hash_payload(b"{}")},
    ]
    assert run("--json", "--canonical", payload=b"{}")[0] == 2
