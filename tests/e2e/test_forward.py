"""``webhook-sync forward`` as a process: faults, kills, signals, dead letters, what it prints."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook as StandardWebhook

from portable_core.cli.main import main
from tests.e2e.test_sync_command import COMMAND
from tests.support.delivery.feed_server import make_webhook
from tests.support.delivery.live_feed import LiveFeed, run_master
from tests.support.nodes.receivers import ReplayTarget, run_receiver
from tests.support.nodes.sync_nodes import TOKEN

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[LiveFeed]:
    with run_master(tmp_path) as feed:
        yield feed


class Forwarding:
    """Starts of the command on one state file."""

    def __init__(self, url: str, folder: Path) -> None:
        self.state = folder / "state"
        self._environment = {"MASTER_URL": url, "SYNC_TOKENS": TOKEN, "PATH": "/usr/bin:/bin"}

    def start(self, *arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, "forward", "--state", str(self.state), *arguments],
            stdout=output,
            stderr=output,
            text=True,
            env=self._environment,
        )

    def run(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Run to the end; return the exit code and the lines printed."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        assert not errors, errors
        return process.returncode, [json.loads(line) for line in output.splitlines()]

    def command(self, command: str, *arguments: str) -> Any:
        """Run a command about dead letters."""
        return CliRunner().invoke(main, [*command.split(), "--state", str(self.state), *arguments])


@pytest.fixture
def forwarding(feed: LiveFeed, tmp_path: Path) -> Forwarding:
    return Forwarding(feed.url, tmp_path)


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def list_numbers(receiver: ReplayTarget) -> list[int]:
    return [int(headers["x-github-delivery"]) for headers, _ in receiver.taken]


def test_webhooks_arrive_exactly_signed_and_marked(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(*(make_webhook(number) for number in range(20)))
    with run_receiver() as receiver:
        code, lines = forwarding.run(f"{receiver.url}?t=1", "--once", "--secret", SECRET)
    assert (code, lines[-1]["delivered"], lines[-1]["problem"]) == (0, 20, "")
    assert list_numbers(receiver) == [*range(20)]
    assert receiver.targets[3] == "/hook?t=1&n=3"
    for (headers, body), record in zip(receiver.taken, feed.records, strict=True):
        assert body == record.payload
        StandardWebhook(SECRET).verify(body, headers)
        assert headers["webhook-id"] == headers["webhook-sync-key"] == record.meta.key
        assert headers["webhook-sync-delivery"] == "forwarded"
        assert headers["x-github-event"] == "push"
    assert forwarding.run(receiver.url, "--once")[1][-1]["delivered"] == 0


def test_kills_repeat_only_what_was_in_flight(feed: LiveFeed, forwarding: Forwarding) -> None:
    count, concurrency, kills = 400, 4, 8
    feed.add(*(make_webhook(number, f"s{number % 7}") for number in range(count)))
    rng, lock = random.Random(1), threading.Lock()

    def answer(body: bytes) -> int:
        time.sleep(0.002)
        with lock:
            return 500 if rng.random() < 0.05 else 200

    accepted: list[int] = []

    def note(body: bytes) -> int:
        status = answer(body)
        if status == 200:
            accepted.append(json.loads(body)["number"])
        return status

    with run_receiver(note) as receiver:
        arguments = (receiver.url, "--once", "--concurrency", str(concurrency))
        for kill in range(kills):
            process = forwarding.start(*arguments)
            target = (kill + 1) * count // (kills + 2)
            wait_until(lambda target=target: len(accepted) >= target)
            process.kill()
            process.communicate()
        assert forwarding.run(*arguments)[0] == 0
    counts = Counter(accepted)
    assert sorted(counts) == [*range(count)]
    assert sum(counts.values()) - count <= kills * concurrency
    for source in range(7):
        first = list(dict.fromkeys(n for n in accepted if n % 7 == source))
        assert first == sorted(first)


def test_it_waits_for_webhooks_and_stops_gracefully(feed: LiveFeed, forwarding: Forwarding) -> None:
    gate = threading.Event()

    def answer(body: bytes) -> int:
        gate.wait(20)
        return 200

    with run_receiver(answer) as receiver:
        process = forwarding.start(receiver.url)
        feed.add(make_webhook(1), make_webhook(2))
        wait_until(lambda: len(receiver.taken) == 1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        gate.set()
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
        assert json.loads(output.splitlines()[-1])["delivered"] == 1
        assert forwarding.run(receiver.url, "--once")[1][-1]["delivered"] == 1
    assert list_numbers(receiver) == [1, 2]


def test_dead_letters_are_listed_retried_and_dropped(
    feed: LiveFeed, forwarding: Forwarding
) -> None:
    feed.add(*(make_webhook(number) for number in range(6)))
    bad = {2, 3, 4}
    with run_receiver(lambda body: 422 if json.loads(body)["number"] in bad else 200) as receiver:
        code, lines = forwarding.run(receiver.url, "--once", "--rejections", "2")
        assert (code, lines[-1]["delivered"], lines[-1]["dead"]) == (1, 3, 3)
        assert Counter(line["event"] for line in lines)["dead_letter"] == 3
        listed = [
            json.loads(line)
            for line in forwarding.command("dead-letters list", "--json").output.splitlines()
        ]
        assert [(one["status"], one["attempts"]) for one in listed] == [(422, 2)] * 3
        bad.remove(3)
        done = forwarding.command("dead-letters retry", "--all", "--url", receiver.url)
        assert (done.exit_code, done.output.splitlines()[-1]) == (1, "1 delivered, 2 failed.")
        raw = forwarding.command("dead-letters show", listed[0]["id"], "--raw")
        assert raw.stdout_bytes == feed.records[2].payload
        assert "422" in forwarding.command("dead-letters show", listed[0]["id"]).output
        dropped = forwarding.command("dead-letters drop", listed[0]["id"])
        assert (dropped.exit_code, dropped.output) == (0, "1 dropped.\n")
        left = forwarding.command("dead-letters list").output.splitlines()
        assert [line.split()[0] for line in left] == [listed[2]["id"]]
    assert list_numbers(receiver)[-3:] == [2, 3, 4]
    assert receiver.taken[-1][0]["webhook-sync-attempt"] == "3"


def test_a_terminal_shows_progress_and_dead_letters(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(*(make_webhook(number) for number in range(4)))
    ours, theirs = pty.openpty()
    with run_receiver(lambda body: 422 if json.loads(body)["number"] == 2 else 200) as receiver:
        process = forwarding.start(receiver.url, "--rejections", "1", output=theirs)
        os.close(theirs)
        wait_until(lambda: len(receiver.taken) == 4)
        time.sleep(1)  # two updates
        process.send_signal(signal.SIGINT)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65_536):
                shown += part
        assert process.wait(20) == 0
    os.close(ours)
    text = shown.decode()
    assert "dead letter after 1 requests: 422 Unprocessable Entity" in text
    assert text.count("3 delivered") > 1
    assert text.splitlines()[-1].endswith("dead letters: 1, skipped: 0, waiting: 0.")
    assert "does not respond" not in text


def test_repeats_are_skipped(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(make_webhook(1), make_webhook(2), make_webhook(1), make_webhook(3, "other"))
    with run_receiver() as receiver:
        arguments = (receiver.url, "--once", "--skip-repeats", "--source", "s")
        assert forwarding.run(*arguments)[1][-1]["skipped"] == 1
    assert list_numbers(receiver) == [1, 2]


def test_a_repeat_is_skipped_that_the_feed_does_not_mark(
    feed: LiveFeed, forwarding: Forwarding
) -> None:
    feed.add(make_webhook(1), make_webhook(2))
    with run_receiver() as receiver:
        assert forwarding.run(receiver.url, "--once")[1][-1]["delivered"] == 2
        feed.stop()
        feed.start()  # the master knows no earlier keys now
        feed.add(make_webhook(2), make_webhook(3))
        assert forwarding.run(receiver.url, "--once", "--skip-repeats")[1][-1]["skipped"] == 1
        assert list_numbers(receiver) == [1, 2, 3]


def test_410_stops(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(make_webhook(1), make_webhook(2))
    with run_receiver(lambda body: 410) as receiver:
        code, lines = forwarding.run(receiver.url)
        assert (code, lines[-1]["problem"]) == (1, "the receiver answered 410 Gone")
        assert len(receiver.taken) == 1


def test_a_state_has_one_process(feed: LiveFeed, forwarding: Forwarding) -> None:
    with run_receiver() as receiver:
        feed.add(make_webhook(1))
        process = forwarding.start(receiver.url)
        wait_until(lambda: receiver.taken)
        second = forwarding.start(receiver.url)
        _, errors = second.communicate(timeout=20)
        assert second.returncode == 1
        assert "in use by another process" in errors
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize(("token", "problem"), [("wrong", "answered 401: "), (TOKEN, "")])
def test_a_refusal_of_the_master_ends_it(
    feed: LiveFeed, forwarding: Forwarding, token: str, problem: str
) -> None:
    code, lines = forwarding.run("http://127.0.0.1:9/", "--token", token, "--once")
    assert (code, problem in lines[-1]["problem"]) == (3 if problem else 0, True)


def test_a_restart_of_the_master_is_survived(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(*(make_webhook(number) for number in range(10)))
    with run_receiver() as receiver:
        process = forwarding.start(receiver.url)
        wait_until(lambda: len(receiver.taken) == 10)
        feed.stop()
        feed.start()
        feed.add(make_webhook(10))
        wait_until(lambda: len(receiver.taken) == 11)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert list_numbers(receiver) == [*range(11)]
    assert process.returncode == 0


def test_a_command_gets_each_webhook(feed: LiveFeed, forwarding: Forwarding) -> None:
    feed.add(*(make_webhook(number) for number in range(3)))
    out = forwarding.state.with_name("out")
    code = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read() + chr(10))"
    command = f'{sys.executable} -c "{code}"'
    assert forwarding.run("--exec", command, "--once")[0] == 0
    assert out.read_bytes().splitlines() == [record.payload for record in feed.records]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "either URL or --exec"),
        ("http://h/ --exec true", 2, "either URL or --exec"),
        ("ftp://h/", 1, "is not an http"),
        ("http://h/ --secret x", 1, "--secret: "),
        ("http://h/ --retry-for soon", 2, "invalid duration"),
        ("http://h/ --master h:80", 1, "--master: "),
        ("--exec /nonexistent/x", 1, "--exec: no such command"),
        ("http://h/ --state /nonexistent/x", 1, "No such file"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, arguments: str, code: int, message: str
) -> None:
    given = ["forward", "--state", str(tmp_path / "state"), *arguments.split()]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == code, result.output
    assert message in result.output.splitlines()[-1]
