"""A receiver of webhooks for tests: notes each request, and answers as the test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class ReplayTarget:
    """``taken``: headers and body of each request; ``targets``: the target of each request.

    ``answer`` chooses each status.
    """

    answer: Callable[[bytes], int]
    url: str = ""
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


@contextmanager
def run_receiver(
    answer: Callable[[bytes], int] = lambda body: 200, retry_after: str = ""
) -> Iterator[ReplayTarget]:
    """One on a free port of the loopback interface."""
    receiver = ReplayTarget(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.targets.append(self.path)
            receiver.taken.append((headers, body))
            status = receiver.answer(body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", receiver.url)
            if retry_after:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
