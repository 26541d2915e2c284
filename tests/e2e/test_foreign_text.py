"""Texts of a master and its slaves: the commands print them as they are; no terminal obeys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from portable_core.sync.report import SlaveReport, SyncReport
from tests.e2e.test_sync_command import run, run_on_terminal, run_other

TEXT = "unmatched [/b] tag in [start, end) at :smile: http://[::1]:8080"

STORE = {"uuid": "u", "generation": 1, "hash": "crc32c"}


class Site:
    """An HTTP server that answers every request with the same, and keeps what it was asked."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815  # the name is the library's

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_events() -> bytes:
    slave = SlaveReport("alpha", seconds=1.0, warning=TEXT)
    report = SyncReport(1, 1.0, [slave])
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (name, json.dumps(document).encode())
        for name, document in (
            (b"progress", slave.to_json()),
            (b"report", report.to_json()),
        )
    )


@pytest.fixture
def master() -> Iterator[Site]:
    with Site(200, {"Content-Type": "text/event-stream"}, make_events()) as site:
        yield site


def test_a_sync_shows_brackets_as_they_are(master: Site) -> None:
    done = run("--master", master.url, COLUMNS="250")
    assert done.returncode == 0, done.stderr
    assert TEXT in done.stdout
    assert TEXT in done.stderr


def test_a_report_fits_80_columns() -> None:
    slaves = [
        SlaveReport(
            "webhook-slave-a",
            started=1,
            pairs_sent=1234567,
            records_received=12345,
            saved=12345,
            seconds=123.4,
            error=TEXT,
        ),
        SlaveReport("slave-2", started=1, pairs_sent=3, bytes_sent=123456789, seconds=0.01),
    ]
    report = json.dumps(SyncReport(1, 123.5, slaves).to_json())
    with Site(200, {}, f"event: report\ndata: {report}\n\n".encode()) as site:
        done = run("--master", site.url, COLUMNS="80")
    assert done.returncode == 1, done.stderr
    *table, note = [line for line in done.stdout.splitlines() if line.strip()]
    assert "…" not in "".join(table)
    assert table[-1].split() == [
        *("slave-2", "3", "0", "0", "0", "123.5", "MB", "0.01", "complete")
    ]
    assert {"records", "recovered", "seconds", "failed"} <= set(" ".join(table).split())
    assert note == f"webhook-slave-a: {TEXT}"


def test_a_terminal_shows_its_bars(master: Site) -> None:
    assert "alpha" in run_on_terminal("--master", master.url)


def test_a_status_shows_brackets_as_they_are() -> None:
    status = {
        "now": 1,
        "horizon": 1,
        "store": {**STORE, "records": 1, "newest": 1},
        "buffer": {"records": 0},
        "slaves": {
            "alpha": {"complete_until": 1, "report": {"error": TEXT, "started": 1, "saved": 0}}
        },
    }
    with Site(200, {}, json.dumps(status).encode()) as site:
        done = run_other("status", "--master", site.url, COLUMNS="250")
    assert done.returncode == 1, done.stderr
    assert f"\nslave-failed of alpha (critical): {TEXT}. " in done.stdout


def test_a_status_fits_80_columns() -> None:
    now = 1_795_597_239_596
    report = {"error": "", "started": now, "saved": 1234567}
    names = {"webhook-slave-a": {}, "b": report, "c": {**report, "error": TEXT}, "d": report}
    # As a master of an older release reports it.
    slaves = {name: {"in_until": now, "report": report} for name, report in names.items()}
    slaves["d"]["in_until"] = now - 901_000
    status: dict[str, object] = {
        "now": now,
        "horizon": now,
        "store": STORE,
        "buffer": {"records": 0},
    }
    status["slaves"] = slaves
    with Site(200, {}, json.dumps(status).encode()) as site:
        done = run_other("status", "--master", site.url, COLUMNS="80")
    assert done.returncode == 1, done.stderr
    *table, of_c, of_d, of_a = done.stdout.splitlines()[4:]
    assert "…" not in "".join(table)
    assert [line.split(" │ ")[-1].strip("│ ") for line in table if "│" in line][-3:] == [
        *("complete", "failed", "late")
    ]
    assert "never synced" in "".join(table)
    assert of_a.startswith("never-synced of webhook-slave-a (warning): never synced. Sync now.")
    assert of_c.startswith(f"slave-failed of c (critical): {TEXT}. ")
    assert of_d.startswith("slave-late of d (critical): late: ")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("command", ["sync", "status"])
def test_no_redirect_is_followed_with_the_token(command: str, status: int) -> None:
    with Site(200, {}, b"{}") as other:
        there = other.url.replace("127.0.0.1", "localhost")
        with Site(status, {"Location": f"{there}/else"}, b'{"detail":"moved"}') as site:
            done = run_other(command, "--master", site.url, "--token", "secret")
    assert done.returncode == 3
    assert f"answered {status}, a redirect to {there.removeprefix('http://')}." in done.stderr
    assert [token for _, token in site.asked] == ["Bearer secret"]
    assert other.asked == []
