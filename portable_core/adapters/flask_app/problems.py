"""Errors as responses: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from portable_core.errors import WebhookSyncError
from portable_core.problems import (
    PROBLEM_TYPE,
    ProblemResponse,
    describe_fault,
    describe_problem,
    make_document,
)


def add_problem_handlers(app: Flask) -> None:
    """Return a problem document for every exception of a view; log unexpected ones."""
    app.register_error_handler(WebhookSyncError, answer_problem)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer_fault)


def answer_problem(error: WebhookSyncError, *, log: bool = True) -> Response:
    """Return the problem document of an error of the core."""
    return _answer(describe_problem(error, log=log))


def answer_http_exception(error: HTTPException) -> Response:
    """Return the problem document of an error of the framework: an unknown path, a wrong method."""
    status = error.code or 500
    document = make_document(status, error.name, error.description or "")
    response = _answer(ProblemResponse(status, {}, document))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def answer_fault(error: Exception) -> Response:
    """Return the problem document of an unexpected error, and log the error."""
    return _answer(describe_fault(error))


def _answer(problem: ProblemResponse) -> Response:
    return Response(problem.body, problem.status, problem.headers, content_type=PROBLEM_TYPE)
