"""Run the commands of ``docs/try.md``, and compare the responses with its text."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_core.demo.processes import find_free_port

ROOT = Path(__file__).parents[2]


def read_commands() -> list[str]:
    """Return the shell blocks of the page."""
    text = (ROOT / "docs" / "try.md").read_text()
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


class Shell:
    """Runs the page's commands on a port and in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_free_port()

    def adapt(self, command: str) -> str:
        return command.replace("8081", str(self.port)).replace("./data", str(self.folder))

    def run(self, command: str) -> Any:
        done = subprocess.run(
            self.adapt(command), shell=True, cwd=ROOT, capture_output=True, timeout=60, check=True
        )
        return json.loads(done.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell beside the slave that the page's first command starts."""
    shell = Shell(tmp_path)
    start = shell.adapt(read_commands()[0])
    slave = subprocess.Popen(start, shell=True, cwd=ROOT, start_new_session=True)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{shell.port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield shell
    finally:
        os.killpg(slave.pid, signal.SIGTERM)
        slave.wait(15)


def test_the_commands_respond_as_the_page_says(shell: Shell) -> None:
    _, posts, empty, unsorted = read_commands()
    first, second = (shell.run(line) for line in posts.strip().splitlines())
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["hash"] == second["hash"]
    records = shell.run(empty)
    assert [(record["hash"], record["timestamp"], record["data"]) for record in records] == [
        (answer["hash"], answer["timestamp"], {"a": [True, None], "b": 1})
        for answer in (first, second)
    ]
    problem = shell.run(unsorted)
    assert problem["status"] == 400
    assert "element 1" in problem["detail"]
