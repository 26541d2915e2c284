"""The HTTP server of a stand-in: it counts requests, and answers as the stand-in or a test does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time_ns
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from portable_core.adapters.simulated_clock import SimulatedClock

#: The clock of providers and of their masters; each stand-in sets it to the date.
CLOCK = SimulatedClock()


class ApiRequest(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class ApiAnswer(NamedTuple):
    """``cut``: how many bytes of the body are left out, although they are announced."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    cut: int = 0


Respond = Callable[[ApiRequest], ApiAnswer]


@dataclass
class ApiServer:
    """``requests`` in order. ``intercept`` may answer in place of the stand-in.

    ``clock_s`` is added to the date of responses.
    """

    respond: Respond
    url: str = ""
    requests: list[ApiRequest] = field(default_factory=list)
    intercept: Callable[[ApiRequest], ApiAnswer | None] = lambda request: None
    clock_s: float = 0.0

    def format_date(self) -> str:
        return formatdate(CLOCK.now() // 1000 + self.clock_s, usegmt=True)

    def forget(self) -> list[str]:
        """Return the requests so far as text, and forget them."""
        made = [f"{request.method} {request.path}" for request in self.requests]
        self.requests.clear()
        return made


@contextmanager
def run_api(respond: Respond) -> Iterator[ApiServer]:
    """A server on a free port of the loopback interface."""
    api = ApiServer(respond)
    CLOCK.set(time_ns() // 1_000_000)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            request = ApiRequest(
                self.command,
                parts.path,
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(int(self.headers.get("Content-Length", 0))),
            )
            api.requests.append(request)
            answer = api.intercept(request) or api.respond(request)
            self.send_response_only(answer.status)
            headers = {"Date": api.format_date(), **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            if answer.status != 304:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = self.close_connection or bool(answer.cut)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
