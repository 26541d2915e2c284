"""Errors of the commands: a wrong address, an address of another program, a wrong file."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portable_core.adapters.sqlite import SqliteStore
from portable_core.cli.main import main
from portable_core.demo.processes import NodeProcess
from portable_core.records import Meta, Pair, Record
from tests.e2e.test_sync_command import COMMAND
from tests.support.nodes.receivers import run_receiver
from tests.support.nodes.sync_nodes import TOKEN, Nodes, make_record, now_ms, start
from tests.support.requests.hostile_cases import CASES, serve

COMMANDS = (
    "status",
    "sync",
    "webhooks list",
    "webhooks show 1-1",
    "webhooks export",
    "replay http://127.0.0.1:9/ --since 1h",
    "replay http://127.0.0.1:9/ --id 1-1",
)

SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<h1>Hello</h1>\n"
NUMBER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n17\n"
NESTED = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"[" * 99_998 + b"\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"


@contextmanager
def run_speaker(sent: bytes) -> Iterator[str]:
    """The address of a server that sends the same to every client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if sent is not SSH:  # that one speaks first
                        connection.recv(65536)
                    connection.sendall(sent)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def run(command: str, *more: str) -> Result:
    result = CliRunner().invoke(main, [*command.split(), *more])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def check_one_line(result: Result, text: str, code: int = 1) -> None:
    """That the command failed with one line; a replay prints its totals before that.

    A replay without its webhooks has a result, its totals, and exits with 1 then.
    """
    lines = [line for line in result.output.splitlines() if " 0 failed (none sent)" not in line]
    if "0 failed (none sent)" in result.output:
        code = 1
    assert (result.exit_code, len(lines)) == (code, 1), result.output
    assert re.search(text, lines[0]), lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_address_or_token_is_one_line(command: str) -> None:
    for address in ("http://h:abc", "http://h:99999", "http://", "h:80", "http://[::1"):
        check_one_line(run(command, "--master", address), "^Error: --master: ")
    for token in ("two\nlines", "t\u00f6ken", "a\x00b"):
        result = run(command, "--master", "http://127.0.0.1:9", "--token", token)
        check_one_line(result, "^Error: --token: ")
    check_one_line(run(command, "--master", "http://a..b"), "http://a..b does not respond", 3)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "sent", [SSH, PAGE, NUMBER, NESTED, CUT], ids=["ssh", "page", "number", "nested", "cut"]
)
def test_what_is_no_master_is_one_line(
    command: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portable_core.cli.master_client._PAUSE_S", 0.0)
    with run_speaker(sent) as url:
        text = (
            "does not speak HTTP"
            if sent is SSH
            else "address of a master|cut|broke|cannot be|ended"
        )
        check_one_line(run(command, "--master", url), text, 3)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with Nodes(tmp_path_factory.mktemp("faults")) as nodes:
        store = SqliteStore(str(nodes.folder / "master"))
        store.open("crc32c")
        record = Record(Pair(now_ms() - 5000, 7), b"{}", Meta("", {}))
        store.append([record, make_record(1, now_ms() - 4000), make_record(2, now_ms() - 3000)])
        store.close()
        master = nodes.make_master({})
        start(master)
        yield master


def replay(master: NodeProcess, url: str, results: Path) -> Result:
    address = ("--master", master.url, "--token", TOKEN)
    return run("replay", url, *address, "--since", "1h", "--results", str(results))


def test_a_comparison_that_cannot_be_made_is_no_missing_webhook(master: NodeProcess) -> None:
    for slave, of_master in (
        ("http://127.0.0.1:9", master.url),
        ("http://h:abc", master.url),
        (master.url, master.url),
        (master.url, "http://127.0.0.1:9"),
        (master.url, "ftp://x"),
    ):
        result = run("verify", "--slave-url", slave, "--master", of_master, "--token", TOKEN)
        assert (result.exit_code, len(result.output.splitlines())) == (3, 1), result.output
    assert run("verify").exit_code == 2


@pytest.mark.parametrize("name", ["order", "twice", "beyond", "before", "no-mark"])
def test_records_out_of_place_are_no_comparison(master: NodeProcess, name: str) -> None:
    with serve(CASES[name]) as slave:
        address = ("--slave-url", slave.url, "--master", master.url, "--token", TOKEN)
        result = run("verify", *address)
    assert result.exit_code == 3, result.output
    *missing, fault = result.output.splitlines()
    assert all(line.startswith("missing: ") for line in missing)
    assert fault.startswith("Error: ")


@pytest.mark.parametrize(
    ("stop", "code"),
    [(KeyboardInterrupt(), 3), (OSError(errno.ENOSPC, "full"), 3), (BrokenPipeError(32, "x"), 1)],
    ids=["ctrl-c", "full", "reader-gone"],
)
def test_a_comparison_that_is_stopped_is_no_missing_webhook(
    stop: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(*arguments: object) -> int:
        raise stop

    monkeypatch.setattr("portable_core.cli.verify._verify", verify)
    assert run("verify --slave-url http://127.0.0.1:9").exit_code == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "command", ["status", "sync --json", "webhooks list", "webhooks export", "--help"]
)
def test_an_output_that_cannot_be_written_is_one_line(command: str, master: NodeProcess) -> None:
    env = {"MASTER_URL": master.url, "SYNC_TOKENS": TOKEN, "PATH": "/usr/bin:/bin"}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, env=env
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr == "Error: [Errno 28] No space left on device\n"


def test_a_reader_that_goes_is_no_fault(master: NodeProcess) -> None:
    env = {"MASTER_URL": master.url, "SYNC_TOKENS": TOKEN, "PATH": "/usr/bin:/bin"}
    for command in ("webhooks export", "--help"):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(
            [COMMAND, *command.split()], stdout=theirs, stderr=subprocess.PIPE, env=env
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (1, b"")


def test_where_nothing_answers_or_no_master_the_reason_is_plain(master: NodeProcess) -> None:
    nowhere = "http://127.0.0.1:9"
    check_one_line(
        run("status", "--master", nowhere),
        r"respond \(\[Errno \d+\] Connection refused\)\. Is the master running",
        3,
    )
    elsewhere = f"{master.url}/elsewhere"
    for command in ("status", "webhooks list", "sync"):
        result = run(command, "--master", elsewhere, "--token", TOKEN)
        check_one_line(result, r"answered 404: .*\. Is --master the address of a master\?$", 3)
    result = run("webhooks show 1-1", "--master", master.url, "--token", TOKEN)
    check_one_line(result, "answered 404: this master has no webhook 1-1$")
    result = run("verify", "--slave-url", nowhere, "--master", master.url, "--token", TOKEN)
    assert result.output.startswith(f"Error: slave ({nowhere}): no connection")


def test_a_closed_output_is_one_line(master: NodeProcess) -> None:
    env = {"MASTER_URL": master.url, "SYNC_TOKENS": TOKEN, "PATH": "/usr/bin:/bin"}
    command = f"exec {COMMAND} webhooks export >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, env=env)
    assert (done.returncode, done.stderr) == (1, b"Error: standard output is closed\n")


def test_a_replay_of_what_is_not_there_says_so_in_a_sentence(master: NodeProcess) -> None:
    address = ("--master", master.url, "--token", TOKEN)
    result = run("replay http://127.0.0.1:9/ --id 1-1", *address)
    assert result.exit_code == 1
    assert (
        f"\nEnded early. Unavailable: {master.url} answered 404: this master has no webhook 1-1"
        in result.output
    )


def test_a_replay_of_nothing_in_particular_is_a_misunderstanding() -> None:
    for more in ((), ("--id", "1-1", "--since", "1h")):
        result = run("replay http://127.0.0.1:9/", *more)
        assert result.exit_code == 2
        assert "either --id, or --since" in result.output


def test_options_that_make_no_sense_are_a_misunderstanding() -> None:
    for command in ("status --late -1", "webhooks show 1-1 --raw --json"):
        assert run(command, "--master", "http://127.0.0.1:9").exit_code == 2


def test_times_before_the_epoch_are_its_beginning(master: NodeProcess) -> None:
    address = ("--master", master.url, "--token", TOKEN)
    for since in ("1969-01-01", "99999d", "0"):
        result = run("webhooks export --since", since, *address)
        assert (result.exit_code, len(result.output.splitlines())) == (0, 3), result.output
    assert run("webhooks export --since", "9999999999999999", *address).exit_code == 2


def test_a_sync_goes_to_the_master_that_the_environment_names(master: NodeProcess) -> None:
    env = {"MASTER_URL": master.url, "SYNC_TOKENS": TOKEN}
    result = CliRunner().invoke(main, ["sync", "--json"], env=env)
    assert json.loads(result.stdout)["slaves"] == []
    result = CliRunner().invoke(main, ["sync", "--master", ""], env={**env, "STORE": "memory:"})
    assert "SLAVES: missing" in result.output


def test_a_replay_says_why_the_first_one_failed(master: NodeProcess, tmp_path: Path) -> None:
    result = replay(master, "http://127.0.0.1:9/", tmp_path / "results")
    assert result.exit_code == 1
    assert re.search(r"^First failure: \d+-\d+: .*refused", result.output, re.M)


def test_a_file_for_results_that_cannot_be_is_one_line(master: NodeProcess) -> None:
    result = replay(master, "http://127.0.0.1:9/", Path("/nonexistent/x"))
    check_one_line(result, "^Error: --results: .*No such file or directory: '/nonexistent/x'")


def test_a_cut_line_of_the_results_costs_no_other_result(
    master: NodeProcess, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    results.write_bytes(b'\xff\xfe\n{"id":5,"ok":true}\n[1]\n{"id":"1-1","ok":tr')
    with run_receiver() as receiver:
        for sent in (3, 0):
            receiver.taken.clear()
            result = replay(master, receiver.url, results)
            assert (result.exit_code, len(receiver.taken)) == (0, sent), result.output
    cut, *lines = results.read_bytes().split(b"\n")[3:-1]
    assert cut == b'{"id":"1-1","ok":tr'
    assert [json.loads(line)["ok"] for line in lines] == [True] * 3
