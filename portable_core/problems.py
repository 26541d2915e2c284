"""The problem documents (RFC 9457) of errors: what every server answers."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

import orjson

from portable_core.errors import Unauthorized, WebhookSyncError

logger = logging.getLogger(__name__)

#: The media type of problem documents.
PROBLEM_TYPE = "application/problem+json"


class ProblemResponse(NamedTuple):
    """A response: its status, its headers besides ``Content-Type``, and the document."""

    status: int
    headers: dict[str, str]
    body: bytes


def describe_problem(error: WebhookSyncError, *, log: bool = True) -> ProblemResponse:
    """Return the response to a request that failed with an error of the core.

    Log 5xx ones, unless ``log`` is off: :meth:`.Node.refuse` has logged the error then.
    """
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = error.challenge
    if log and error.status >= 500:
        logger.warning("answered %d: %s: %s", error.status, error.title, error)
    document = make_document(
        error.status, error.title, str(error), name_problem(error), **error.members
    )
    return ProblemResponse(error.status, headers, document)


def describe_fault(error: BaseException) -> ProblemResponse:
    """Return the response to a request that failed unexpectedly, and log the error."""
    logger.error("an unexpected error", exc_info=error)
    return ProblemResponse(500, {}, make_document(500, "Internal error", "see the node's log"))


def make_document(
    status: int, title: str, detail: str, kind: str = "about:blank", **members: object
) -> bytes:
    """Return a problem document as JSON."""
    document = {"type": kind, "title": title, "status": status, "detail": detail, **members}
    return orjson.dumps(document)


def name_problem(error: WebhookSyncError) -> str:
    """Return the problem's type as a URN: ``urn:webhook-sync:buffer-full`` for ``BufferFull``."""
    words = re.findall(r"[A-Z][a-z]*", type(error).__name__)
    return "urn:webhook-sync:" + "-".join(words).lower()
