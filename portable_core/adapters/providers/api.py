"""Requests to a provider's HTTP interface: statuses, rate limits, documents, clocks."""

from __future__ import annotations

import math
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from portable_core.adapters.providers.connection import ApiResponse, ProviderConnection
from portable_core.errors import AnswerInvalid, ClocksDiffer, LogRefused
from portable_core.ports import Clock, KeepWaiting, Milliseconds

#: Characters of a provider's words in messages.
_EXCERPT = 300

#: How long a rate limit is respected if the provider does not name a time, in seconds; and at most.
_PAUSE_S = 60
_LONGEST_PAUSE_S = 3600

#: The most that the clocks of a provider and of a master may differ.
_MOST_APART_MS = 60_000

T = TypeVar("T")


class ProviderApi:
    """The interface at one address. For one thread at a time."""

    def __init__(
        self, label: str, base: str, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self.label = f"{label} ({base})"
        self._connection = ProviderConnection(self.label, base, tls)
        self._clock = clock
        self._lock = threading.Lock()
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
            target = path + (f"?{urlencode(query)}" if query else "")
            sent = {"User-Agent": "webhook-sync", "Accept-Encoding": "identity", **headers}
            self.requests += 1
            response = self._connection.send(method, target, sent, body, wait)
        if response.status not in expected:
            raise self._refuse(f"{method} {path}", response, headers)
        return response

    def close(self) -> None:
        with self._lock:
            self._connection.close()

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
