"""``POST /webhook`` and ``POST /webhook/<source>``: the one path that has to be fast.

Webhooks are processed from the WSGI environment (PEP 3333) directly, in front of Flask: Flask's
routing, request and response objects cost about as much as storing a webhook.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from portable_core.adapters.flask_app.problems import answer_fault, answer_problem
from portable_core.adapters.flask_app.webhook_bodies import BodyReader, check_framing
from portable_core.errors import NotFound, WebhookSyncError
from portable_core.ingest.admission import (
    HANDSHAKE_METHODS,
    Admission,
    find_source,
)
from portable_core.node import Node
from portable_core.problems import name_problem
from portable_core.records import Meta, Pair
from portable_core.sources.decision import Refuse
from portable_core.sources.handshakes import Answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class WebhookMiddleware:
    """WSGI middleware: responds to webhooks and passes every other valid request to ``app``."""

    def __init__(self, app: WSGIApplication, node: Node, started: Callable[[], None]) -> None:
        """``started`` is called before every webhook."""
        self._app = app
        self._node = node
        self._started = started
        self._bodies = BodyReader(node.settings.max_body_bytes)
        self._admission = Admission(node.settings)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        try:
            check_framing(environ)
            _check_path(path)
        except WebhookSyncError as error:
            return answer_problem(error)(environ, start_response)
        method = environ["REQUEST_METHOD"]
        source = find_source(path) if method in ("POST", *HANDSHAKE_METHODS) else None
        if source is None:
            return self._app(environ, start_response)
        return self._answer(source, environ, start_response)

    def _answer(
        self, source: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        started = time.perf_counter()
        outcome = "internal-error"
        try:
            received = self._receive(source, environ)
            if received is None:
                outcome = ""
                return self._app(environ, start_response)
            outcome = "handshake" if isinstance(received, Answer) else "kept"
        except WebhookSyncError as error:
            outcome = name_problem(error).rpartition(":")[2]
            self._node.refuse(source, error)
            return answer_problem(error, log=False)(environ, start_response)
        except Exception as error:  # noqa: BLE001  # answered and logged, as Flask does it elsewhere
            return answer_fault(error)(environ, start_response)
        finally:
            if outcome:
                self._node.observer.observe_webhook(source, outcome, time.perf_counter() - started)
        if isinstance(received, Answer):
            status, headers, body = received.status, [*received.headers], received.body
        else:
            status, kind, body = self._admission.respond(source, received)
            headers = [("Content-Type", kind)] if kind else []
        if status != 204:
            headers.append(("Content-Length", str(len(body))))
        start_response(_STATUS_LINES[status], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _receive(self, source: str, environ: WSGIEnvironment) -> Pair | Answer | None:
        """Return the pair of a webhook, the answer to a handshake, None for neither."""
        node = self._node

        def read_header(name: str) -> str | None:
            value: str | None = environ.get(_name_key(name))
            return value

        def read_headers(name: str) -> list[str]:
            value = read_header(name)
            return [] if value is None else [value]

        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        if method != "POST":
            return self._admission.answer_handshake(source, method, read_headers, query)
        self._started()
        node.observer.begin_request(read_header)
        self._admission.check_head(
            source, environ.get("CONTENT_TYPE", ""), environ.get("HTTP_CONTENT_ENCODING")
        )
        with self._bodies.read(environ) as payload:
            request = self._admission.make_request(source, method, read_headers, query, payload)
            decision = node.decide(source, request, node.receiver.clock.now())
            if isinstance(decision, Refuse):
                raise decision.error
            if isinstance(decision, Answer):
                self._admission.report_handshake(source, decision)
                return decision
            meta = self._read_meta(source, environ)
            limits = self._admission.limits
            limits.enter(source, len(payload), node.receiver.clock.monotonic())
            try:
                return node.receive(payload, meta)
            finally:
                limits.leave(source, len(payload))

    def _read_meta(self, source: str, environ: WSGIEnvironment) -> Meta:
        headers = ((_name_header(key), value) for key, value in environ.items())
        named = ((name, value) for name, value in headers if name)
        return self._admission.read_meta(source, named, environ.get("QUERY_STRING", ""))


def _check_path(path: str) -> None:
    """Raise ``NotFound`` for a path that begins with several slashes.

    werkzeug treats ``//sync`` as ``/sync``; a proxy in front that hides ``/sync`` does not.
    """
    if path.startswith("//"):
        raise NotFound("a path begins with one slash")


def _name_key(header: str) -> str:
    """Return the environment's key (PEP 3333) of a header's name, or of the start of one."""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


@lru_cache(maxsize=1024)  # most environments of a server have the same keys
def _name_header(key: str) -> str:
    """Return the name of the header that a key of the environment stands for; "" if none."""
    if key.startswith("HTTP_"):
        return key[len("HTTP_") :].lower().replace("_", "-")
    return key.lower().replace("_", "-") if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else ""
