"""The address of a master, connections to it, and what its responses mean."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from portable_core.documents import Problem
from portable_core.errors import SettingsError, WebhookSyncError
from portable_core.webhooks.delivery_policy import parse_retry_after

#: The timeout in seconds to connect, and without a byte beyond the time that the master may wait.
TIMEOUT_S = 30.0

_MAX_PROBLEM_BYTES = 65_536
_TEMPORARY = (408, 425, 429)


class _Problem(Problem, frozen=True):
    resume: str = ""


class FeedRejected(WebhookSyncError):
    """The master rejected the request: its token, a parameter, or the position.

    ``answered`` is the status. After 409 the master does not know the position, and ``resume`` is
    one from which nothing is skipped; it is empty otherwise.
    """

    status: ClassVar[int] = 502
    title: ClassVar[str] = "Feed rejected"

    def __init__(self, message: str, answered: int, resume: str = "") -> None:
        super().__init__(message)
        self.answered = answered
        self.resume = resume


class FeedUnavailable(WebhookSyncError):
    """The master did not respond with a whole feed; ``retry_after`` is the delay it asked for."""

    status: ClassVar[int] = 503
    title: ClassVar[str] = "Feed unavailable"


class Master:
    """A master at ``url``, to which requests carry ``token``.

    ``tls``: which certificates are trusted; by default those that the system trusts. Requests are
    sent directly: proxies of the environment are not used. Raises ``SettingsError`` for an invalid
    address or token.
    """

    def __init__(self, url: str, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        try:
            self._port = parts.port
        except ValueError as error:
            raise SettingsError(f"invalid address {url[:200]!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{url[:200]!r} is not an http:// or https:// address")
        if not (token.isascii() and token.isprintable()):
            raise SettingsError("token: contains characters that are not printable ASCII")
        self._host, self._https, self._tls = parts.hostname, parts.scheme == "https", tls
        self.path = parts.path
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def connect(self, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
        """Return a connection; its first request opens it."""
        if not self._https:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        tls = self._tls or ssl.create_default_context()
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=tls)

    def explain_status(self, response: http.client.HTTPResponse) -> WebhookSyncError:
        """Return the error that a status other than 200 is."""
        status = response.status
        detail, resume = response.reason, ""
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            problem = msgspec.json.decode(response.read(_MAX_PROBLEM_BYTES), type=_Problem)
            detail = " ".join((problem.detail or problem.title or detail).split())
            resume = problem.resume if status == 409 else ""
        message = f"{self.url} answered {status}: {detail}"
        if 300 <= status < 500 and status not in _TEMPORARY:
            return FeedRejected(message, status, resume)
        error = FeedUnavailable(message)
        error.retry_after = round(parse_retry_after(response.headers.get("Retry-After", ""), 0))
        return error

    def explain_silence(self, error: Exception) -> FeedUnavailable:
        """Return the error that a failed connection is."""
        return FeedUnavailable(f"{self.url} does not respond ({error!r:.150})")
