"""Requests to a provider's HTTP interface: one connection, rate limits, bounded responses.

A response is read whole, up to a limit, and never as a stream: payloads are cut out of it byte for
byte, which a streaming parser such as ijson does not allow (it replaces lone surrogates, and its C
backend ends the process at very long integers). Pages are requested smaller if one is too large.

Redirects are not followed, and proxies of the environment are not used, as with slaves.
"""

from __future__ import annotations

import http.client
import math
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from portable_core.errors import AnswerInvalid, ClocksDiffer, LogRefused, LogUnreachable
from portable_core.ports import Clock, KeepWaiting, Milliseconds

#: The largest response that is read: a page, or one webhook.
MAX_RESPONSE_BYTES = 64 * 2**20

#: The most of a response that was refused, and of its text in messages.
_MAX_REFUSAL_BYTES = 16_384
_EXCERPT = 300

#: The timeout without a byte: shorter than a lease, which is renewed between two reads.
_TIMEOUT_S = 8.0
_CHUNK = 256 * 1024

#: How long a rate limit is respected if the provider does not name a time, in seconds; and at most.
_PAUSE_S = 60
_LONGEST_PAUSE_S = 3600

#: The most that the clocks of a provider and of a master may differ.
_MOST_APART_MS = 120_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response. ``date`` is the provider's clock, a second early at most; None without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: Milliseconds | None


class TooLarge(AnswerInvalid):
    """A response has more than :data:`MAX_RESPONSE_BYTES`."""


class ProviderApi:
    """The interface at one address. For one thread at a time."""

    def __init__(
        self, label: str, base: str, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(base)
        self.label = f"{label} ({base})"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._blocked_until = 0.0
        self._blocked_text = ""
        #: Requests made since the start.
        self.requests = 0

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        wait: KeepWaiting,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> ApiResponse:
        """Return the response to a request; raise unless its status is expected.

        While a rate limit lasts, no request is made. Raises ``LogUnreachable``, ``LogRefused``,
        ``AnswerInvalid``, and what ``wait`` raises.
        """
        wait()
        with self._lock:
            self._check_limit()
            target = f"{self._path}{path}" + (f"?{urlencode(query)}" if query else "")
            sent = {"User-Agent": "webhook-sync", "Accept-Encoding": "identity", **headers}
            self.requests += 1
            try:
                response = self._send(method, target, sent, body, wait)
            except BaseException:
                self._close()
                raise
        if response.status not in expected:
            raise self._refuse(f"{method} {path}", response, headers)
        return response

    def close(self) -> None:
        with self._lock:
            self._close()

    def check_clock(self, response: ApiResponse) -> Milliseconds:
        """Return the provider's time; raise ``ClocksDiffer`` if it is far off."""
        now = self._clock.now()
        if response.date is None:
            return now
        time_there = min(max(now, response.date), response.date + 999)
        apart = time_there - now
        if abs(apart) > _MOST_APART_MS:
            raise ClocksDiffer(
                f"clock: {self.label} is {abs(apart) / 1000:.1f} s "
                f"{'ahead of' if apart > 0 else 'behind'} this master. Correct the clock of this "
                "machine."
            )
        return time_there

    def decode(self, response: ApiResponse, kind: type[T]) -> T:
        """Return the JSON document of a response. Raises ``AnswerInvalid``."""
        return self.decode_bytes(response.body, kind)

    def decode_bytes(self, raw: bytes, kind: type[T]) -> T:
        """Return the value of a part of a response. Raises ``AnswerInvalid``."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except (ValueError, RecursionError) as error:
            raise AnswerInvalid(f"{self.label}: the response is invalid: {error}") from error

    # -- one request ---------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        wait: KeepWaiting,
    ) -> ApiResponse:
        fresh = self._connection is None
        try:
            return self._send_once(method, target, headers, body, wait)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            # The provider has closed a connection that was idle.
            self._close()
            if fresh:
                raise self._explain(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error
        try:
            return self._send_once(method, target, headers, body, wait)
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error

    def _send_once(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        wait: KeepWaiting,
    ) -> ApiResponse:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, target, body=body, headers=dict(headers))
        answer = self._connection.getresponse()
        most = MAX_RESPONSE_BYTES if answer.status < 300 else _MAX_REFUSAL_BYTES
        chunks, size, last = [], 0, time.monotonic()
        while chunk := answer.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                break
            if time.monotonic() - last > 0.5:
                last = time.monotonic()
                wait()
        if size <= most and answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        answer.close()  # which leaves the connection open
        if size > most or answer.will_close:
            self._close()
        if size > most and answer.status < 300:
            raise TooLarge(f"{self.label}: a response has more than {most} bytes")
        found = {name.lower(): value for name, value in answer.getheaders()}
        return ApiResponse(answer.status, found, b"".join(chunks), _read_date(found.get("date")))

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = self._tls or ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_S, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _explain(self, error: Exception) -> LogUnreachable:
        if isinstance(error, TimeoutError):
            return LogUnreachable(f"{self.label}: timeout: no bytes for {_TIMEOUT_S:g} s")
        if isinstance(error, http.client.IncompleteRead):
            return LogUnreachable(f"{self.label}: the response was cut")
        text = " ".join(str(error).split())[:_EXCERPT]
        return LogUnreachable(f"{self.label}: no response: {type(error).__name__}: {text}")

    # -- refusals and limits -------------------------------------------------------------------

    def _check_limit(self) -> None:
        rest = self._blocked_until - self._clock.monotonic()
        if rest > 0:
            raise LogRefused(self._blocked_text, 429, math.ceil(rest))

    def _refuse(
        self, request: str, response: ApiResponse, sent: Mapping[str, str]
    ) -> LogRefused | AnswerInvalid:
        status = response.status
        if 300 <= status < 400:
            return LogRefused(
                f"{self.label}: {request} answered {status}, a redirect. Has the repository or the "
                "address changed? Correct PROVIDER_LOGS.",
                status,
            )
        reason = self._read_reason(response, sent)
        text = f"{self.label}: {request} answered {status}{f': {reason}' if reason else ''}"
        pause = self._find_pause(response)
        if pause is None:
            return LogRefused(text, status)
        self._blocked_until = self._clock.monotonic() + pause
        self._blocked_text = f"{text.rstrip('.')}. The rate limit is respected until it ends."
        return LogRefused(self._blocked_text, status, pause)

    def _read_reason(self, response: ApiResponse, sent: Mapping[str, str]) -> str:
        """Return the provider's words, without the credentials of the request."""
        text = response.body.decode("utf-8", "replace")
        with suppress(ValueError, RecursionError):
            document = msgspec.json.decode(response.body)
            while isinstance(document, dict):
                found = document.get("message", document.get("error"))
                errors = document.get("errors")
                if found is None and isinstance(errors, list) and errors:
                    found = errors[0].get("detail") if isinstance(errors[0], dict) else errors[0]
                document, text = found, found if isinstance(found, str) else text
        for secret in sent.get("Authorization", "").split()[1:]:
            text = text.replace(secret, "[secret]")
        return " ".join(text.split())[:_EXCERPT].rstrip(".")

    def _find_pause(self, response: ApiResponse) -> int | None:
        """Return for how many seconds no request may be made; None if no limit was reached."""
        headers, status = response.headers, response.status
        after = headers.get("retry-after", "")
        if status not in (403, 429, 503):
            return None
        if after.isascii() and after.isdigit():
            return min(max(int(after[:6]), 1), _LONGEST_PAUSE_S)
        reset = headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", ""))
        spent = headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining")) == "0"
        if spent and reset.isascii() and reset.isdigit():
            now = (response.date or self._clock.now()) // 1000
            return min(max(int(reset[:12]) - now, 1), _LONGEST_PAUSE_S)
        limited = spent or status == 429 or b"rate limit" in response.body.lower()
        return _PAUSE_S if limited else None


def _read_date(value: str | None) -> Milliseconds | None:
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp()) * 1000
    except (ValueError, TypeError, OverflowError):
        return None
