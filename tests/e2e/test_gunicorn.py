"""The WSGI applications under ``containers``, served by gunicorn as their first lines say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from portable_core.demo.processes import find_free_port
from tests.support.nodes.senders import ask_until_it_listens
from tests.support.nodes.sync_nodes import TOKEN

ROOT = Path(__file__).parents[2]
PAYLOAD = b'{"hello":"webhook"}'


@pytest.mark.parametrize("role", ["slave", "master"])
def test_gunicorn_serves_a_role_and_stops_in_order(role: str, tmp_path: Path) -> None:
    port, log = find_free_port(), tmp_path / "log"
    settings = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{tmp_path / 'store'}"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("gunicorn"), f"containers.{role}.app:app"),
                *("--worker-class", "gthread", "--threads", "4", "--bind", f"127.0.0.1:{port}"),
            ],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert ask_until_it_listens(f"http://127.0.0.1:{port}/health") == 200, log.read_text()
        headers = {"Content-Type": "application/json"}
        webhook = urllib.request.Request(f"http://127.0.0.1:{port}/webhook", PAYLOAD, headers)
        with urllib.request.urlopen(webhook, timeout=10) as answer:
            assert answer.status == 200
        server.terminate()
        assert server.wait(10) == 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    lines = log.read_text()
    assert "Traceback" not in lines
    assert "still running" not in lines
