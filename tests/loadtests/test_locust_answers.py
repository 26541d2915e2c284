"""Locust against a server that answers what no node does: the run ends, and tells of each."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from portable_core.payload_hash.canonical import hash_payload

ROOT = Path(__file__).parents[2]


class Handler(BaseHTTPRequestHandler):
    """A pair for every webhook but for a few, by the order in which they come first."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    seen: Counter[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.headers["X-GitHub-Delivery"]
        with self.lock:
            self.seen[name] += 1
            tries, order = self.seen[name], list(self.seen).index(name)
        pair = json.dumps({"hash": hash_payload(body), "timestamp": 1_700_000_000_000 + order})
        match order:
            case 3:
                self.answer(200, b"<ok>")
            case 5:
                self.answer(201, pair.encode())
            case 7:
                self.answer(200, pair.encode()[:9])
            case 9 if tries == 1:
                self.close_connection = True
            case 11:
                self.close_connection = True
            case _:
                self.answer(200, pair.encode())

    def answer(self, status: int, document: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    handler = type("OneRun", (Handler,), {"seen": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_ends_whatever_is_answered(url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")),
            *("--headless", "--only-summary", "-u", "4", "-r", "4", "--sync-every", "0"),
            *("--nodes", f"master={url}", "--left-out", "0", "--webhooks", "20", "--rate", "40"),
            *("--verdict", "verdict.json"),
        ],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=40,
    )
    assert done.returncode == 1, done.stdout
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["refused"] == {"master: 200": 2, "master: 201": 1, "master: 0": 1}
    assert verdict["tries"] == 22  # a second one for each whose first connection was closed
    assert "4 of 20 tries were not acknowledged" in "; ".join(verdict["faults"])
