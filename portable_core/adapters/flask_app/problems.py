"""Errors as responses: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import logging
import re

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from portable_core.errors import Unauthorized, WebhookSyncError
from portable_core.sync.protocol import PROBLEM_TYPE

logger = logging.getLogger(__name__)


def add_problem_handlers(app: Flask) -> None:
    """Return a problem document for every exception of a view; log unexpected ones."""
    app.register_error_handler(WebhookSyncError, answer_problem)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer_fault)


def answer_problem(error: WebhookSyncError) -> Response:
    """Return the problem document of an error of the core."""
    response = _answer(error.status, error.title, str(error), name_problem(error), **error.members)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = error.challenge
    if error.status >= 500:
        logger.warning("answered %d: %s: %s", error.status, error.title, error)
    return response


def answer_http_exception(error: HTTPException) -> Response:
    """Return the problem document of an error of the framework: an unknown path, a wrong method."""
    response = _answer(error.code or 500, error.name, error.description or "", "about:blank")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def answer_fault(error: Exception) -> Response:
    """Return the problem document of an unexpected error, and log the error."""
    logger.error("an unexpected error", exc_info=error)
    return _answer(500, "Internal error", "see the node's log", "about:blank")


def name_problem(error: WebhookSyncError) -> str:
    """Return the problem's type as a URN: ``urn:webhook-sync:buffer-full`` for ``BufferFull``."""
    words = re.findall(r"[A-Z][a-z]*", type(error).__name__)
    return "urn:webhook-sync:" + "-".join(words).lower()


def _answer(status: int, title: str, detail: str, kind: str, **members: object) -> Response:
    document = {"type": kind, "title": title, "status": status, "detail": detail, **members}
    return Response(orjson.dumps(document), status, content_type=PROBLEM_TYPE)
