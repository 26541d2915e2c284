"""Requests to the arrival feed of a master, on one connection while that stays open."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlencode, urlsplit

import msgspec

from portable_core.documents import Problem
from portable_core.errors import AnswerInvalid, SettingsError, WebhookSyncError
from portable_core.webhooks.delivery_policy import parse_retry_after
from portable_core.webhooks.feed_webhook import Webhook, parse_feed_line

FEED_PATH = "/feed"

#: The timeout in seconds to connect, and without a byte beyond the time that the master may wait.
TIMEOUT_S = 30.0

#: The longest line: a payload of 40 MiB in base64, and its headers.
MAX_LINE_BYTES = 64 * 2**20

_READ_BYTES = 256 * 1024
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


class FeedConnection:
    """A connection to the feed of the master at ``url``, for one thread.

    - ``token``: a token of the master; empty for none.
    - ``source``, ``event``: only webhooks of this source, of this event; None for all. An empty
      source stands for webhooks without one.
    - ``wait_s``: how long the master may wait for the next webhook.
    - ``tls``: which certificates are trusted; by default those that the system trusts.

    Requests are sent directly: proxies of the environment are not used.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        source: str | None = None,
        event: str | None = None,
        wait_s: float = 20.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError as error:
            raise SettingsError(f"invalid address {url[:200]!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{url[:200]!r} is not an http:// or https:// address")
        if not (token.isascii() and token.isprintable()):
            raise SettingsError("token: contains characters that are not printable ASCII")
        self._path = parts.path + FEED_PATH
        self._headers = {"Accept": "application/x-ndjson"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._query = {"raw": "1", "wait": f"{wait_s:g}"}
        if source is not None:
            self._query["source"] = source or "-"
        if event is not None:
            self._query["event"] = event
        timeout = wait_s + TIMEOUT_S
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            self._http = http.client.HTTPSConnection(
                parts.hostname, port, timeout=timeout, context=tls or ssl.create_default_context()
            )
        else:
            self._http = http.client.HTTPConnection(parts.hostname, port, timeout=timeout)

    def read(self, after: str | None) -> Iterator[Webhook | str]:
        """Yield the webhooks after a position, and at the end the position of the closing line.

        None is the beginning of the feed. The response ends soon after the master has no further
        webhook, or ``wait_s`` have passed. Raises

        - ``FeedUnavailable`` if the master does not respond or the response was cut,
        - ``FeedRejected`` if the master rejects the request,
        - ``AnswerInvalid`` for a response of another program.
        """
        query = urlencode(self._query if after is None else {**self._query, "after": after})
        whole = False
        try:
            self._http.request("GET", f"{self._path}?{query}", headers=self._headers)
            response = self._http.getresponse()
            if response.status != 200:
                raise self._explain_status(response)
            for line in filter(None, _split_lines(response)):
                parsed = parse_feed_line(line)
                whole = isinstance(parsed, str)
                yield parsed
            if not whole:
                raise FeedUnavailable(f"{self.url}: the feed was cut before its closing line")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            whole = False
            raise FeedUnavailable(f"{self.url} does not respond ({error!r:.150})") from error
        finally:
            if not whole:  # the rest of the response is not read
                self._http.close()

    def _explain_status(self, response: http.client.HTTPResponse) -> WebhookSyncError:
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

    def close(self) -> None:
        """End the connection; from another thread, this ends a :meth:`read` in progress."""
        sock = self._http.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._http.close()


def _split_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield whole lines as they arrive. A last line without its line break is dropped."""
    rest: list[bytes] = []
    size = 0
    while chunk := response.read1(_READ_BYTES):
        *lines, last = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line]) if rest else line
            rest, size = [], 0
        if last:
            rest.append(last)
            size += len(last)
        if size > MAX_LINE_BYTES:
            raise AnswerInvalid("a line of the feed is longer than any webhook")
