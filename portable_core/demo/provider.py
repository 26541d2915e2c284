"""A provider with a delivery log: it sends each webhook once, and lists its deliveries.

It has the part of GitHub's interface that a master reads.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from portable_core.demo.traffic import DemoWebhook

#: The name of the log in the master's settings, and its target.
LOG = "github-log"
_TARGET = "acme/shop/hooks/1"

#: Webhooks that are sent while no node runs.
SENT = 50

_PATH = f"/repos/{_TARGET}/deliveries"
_PAGE = 20


class DemoProvider:
    """A server on a free port of the loopback interface."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(24)
        self._deliveries: list[dict[str, Any]] = []
        #: The requests that the master has made.
        self.requests = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, document, link = provider._answer(
                    self.path, self.headers.get("Authorization", "")
                )
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if link:
                    self.send_header("Link", f'<{provider.url}{link}>; rel="next"')
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def make_settings(self, source: str) -> dict[str, str]:
        """Return the settings of a master that reads the log of this source."""
        options = f"source={source}&token=env:DEMO_LOG_TOKEN&delay=0&base={self.url}"
        return {
            "PROVIDER_LOGS": f"{LOG}=github:{_TARGET}?{options}",
            "DEMO_LOG_TOKEN": self._token,
        }

    def send(self, node: str, webhooks: Sequence[DemoWebhook]) -> int:
        """Send each webhook to a node, once; return how many it acknowledged."""
        acknowledged = 0
        for webhook in webhooks:
            payload = json.dumps(webhook.body).encode()
            headers = {"Content-Type": "application/json", **webhook.headers}
            status = _post(f"{node}/webhook/{webhook.source}", headers, payload)
            acknowledged += status == 200
            self._note(headers, webhook.body, status)
        return acknowledged

    def _note(self, headers: Mapping[str, str], body: Mapping[str, object], status: int) -> None:
        self._deliveries.append(
            {
                "id": len(self._deliveries) + 1,
                "guid": headers["X-GitHub-Delivery"],
                "delivered_at": datetime.fromtimestamp(time.time(), UTC).isoformat(),
                "redelivery": False,
                "status": "OK" if status == 200 else "failed to connect to host",
                "status_code": status,
                "event": headers["X-GitHub-Event"],
                "request": {"headers": headers, "payload": body},
            }
        )

    def _answer(self, target: str, authorization: str) -> tuple[int, object, str]:
        """Return status, document, and the link to the next page."""
        self.requests += 1
        parts = urlsplit(target)
        name = parts.path.removeprefix(_PATH).strip("/")
        if authorization != f"Bearer {self._token}":
            return 401, {"message": "Bad credentials"}, ""
        if not parts.path.startswith(_PATH):
            return 404, {"message": "Not Found"}, ""
        if name:
            return 200, self._deliveries[int(name) - 1], ""
        start = int(parts.query.partition("cursor=")[2] or 0)
        newest = self._deliveries[::-1]
        page = [
            {key: value for key, value in delivery.items() if key != "request"}
            for delivery in newest[start : start + _PAGE]
        ]
        following = start + _PAGE
        return 200, page, f"{_PATH}?cursor={following}" if following < len(newest) else ""


def _post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Return the status of the response, or 0 without one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=3)
    try:
        connection.request("POST", parts.path, body, dict(headers))
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
