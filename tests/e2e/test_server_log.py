"""The log of the container's server when an answer breaks off with an unexpected error."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from portable_core.demo.processes import find_free_port
from tests.support.nodes.failing_streams import MARKED
from tests.support.nodes.senders import ask_until_it_listens

ROOT = Path(__file__).parents[2]
#: By path: what to accept, and the method of the store that fails.
STREAMS = {
    "/pairs": ("application/json", "pairs"),
    "/webhooks?upto=now": ("application/x-ndjson", "records"),
}


def test_an_answer_that_breaks_off_leaves_no_payload_in_the_log(tmp_path: Path) -> None:
    port, log = find_free_port(), tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nodes.failing_streams", str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        assert ask_until_it_listens(f"http://127.0.0.1:{port}/health") == 200, log.read_text()
        for path, (media_type, _) in STREAMS.items():
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", headers={"Accept": media_type}
            )
            # Whether the answer ends or breaks off is the server's matter; the log is this test's.
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(asked, timeout=10) as answer,
            ):
                answer.read()
    finally:
        server.terminate()
        server.wait(15)
    text = log.read_text()
    assert MARKED not in text
    told = [json.loads(line)["stack_trace"] for line in text.splitlines() if "Traceback" in line]
    assert len(told) == len(STREAMS)
    for message, (_, method) in zip(told, STREAMS.values(), strict=True):
        assert f"in {method}\n" in message
        assert "failing_streams.py" in message
        assert message.endswith("\nValueError")
