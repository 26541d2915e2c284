"""Sending kept webhooks again: what a request holds, a run over many, its results.

The payload goes out byte for byte, with the headers that were kept. A connection is made by a
:data:`Connect` from outside; whatever it cannot do is a result, never an exception.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from portable_core.errors import BadRequest, Forbidden, WebhookSyncError
from portable_core.records import Pair, Record, format_id
from portable_core.sources.schemes import (
    STANDARD_ID_HEADER,
    STANDARD_SIGNATURE_HEADER,
    STANDARD_TIMESTAMP_HEADER,
    sign_standard,
)

#: Of a run of many, so many failures are kept by their webhook; more are only counted.
MAX_FAILURES = 10_000

#: Headers that belong to one connection or one message (RFC 9110, sections 7.6.1 and 8.6).
_OF_THE_CONNECTION = {
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}

_SIGNATURE_HEADERS = (STANDARD_ID_HEADER, STANDARD_TIMESTAMP_HEADER, STANDARD_SIGNATURE_HEADER)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` is 0 where no answer came; ``reason`` says why, or is the status' phrase."""

    status: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Connection(Protocol):
    """A way to one address. Follows no redirect, verifies TLS certificates, raises nothing."""

    def post(self, headers: Mapping[str, str], body: bytes) -> Outcome: ...


#: Opens a way to an ``http://`` or ``https://`` address, for one thread.
Connect = Callable[[str], AbstractContextManager[Connection]]


class ResultDocument(msgspec.Struct, frozen=True):
    """A result as a line of a file of results; ``status`` is 0 without a response."""

    id: str
    ok: bool
    status: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one webhook."""

    pair: Pair
    outcome: Outcome

    def describe(self) -> ResultDocument:
        """Return the document of this result."""
        outcome = self.outcome
        return ResultDocument(format_id(self.pair), outcome.ok, outcome.status, outcome.reason)


def check_target(url: str, allowed: Sequence[str] | None) -> str:
    """``url`` if it is an address to send to, and one of those that ``allowed`` are the beginnings
    of (None: every one is). Raises ``BadRequest``, ``Forbidden``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRequest(f"{url[:200]!r} is not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(f"{url[:200]!r} is not an http:// or https:// address")
    if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise BadRequest("the address holds a user's name, spaces or other signs it may not hold")
    if allowed is None:
        return url
    # A server may take "/a/../b" or "/a/%2e%2e/b" for "/b".
    segments = parts.path.lower().replace("%2e", ".").replace("\\", "/").split("/")
    if ".." not in segments and "%2f" not in parts.path.lower():
        for beginning in allowed:
            known = urlsplit(beginning)
            root = known.path.rstrip("/")
            if (
                (known.scheme, known.hostname, known.port) == (parts.scheme, parts.hostname, port)
                and (parts.path or "/").startswith(f"{root}/" if parts.path != root else root)
            ):  # fmt: skip
                return url
    raise Forbidden(f"REPLAY_TARGETS does not allow {url[:200]!r}; it names {', '.join(allowed)}")


def make_headers(record: Record, secret: str, now_s: int) -> dict[str, str]:
    """The headers with which ``record`` is sent again: those that were kept, and, where there is a
    ``secret``, a signature of Standard Webhooks made at ``now_s`` in place of any that was kept."""
    kept = {
        name: value
        for name, value in record.meta.headers.items()
        if name not in _OF_THE_CONNECTION and _can_be_sent(value)
    }
    headers = {"content-type": "application/json", **kept}
    if not secret:
        return headers
    message_id = kept.get(STANDARD_ID_HEADER, "")
    if not message_id or " " in message_id:
        message_id = f"msg_{format_id(record.pair)}"
    for name in _SIGNATURE_HEADERS:
        headers.pop(name, None)
    return {**headers, **sign_standard(secret, message_id, now_s, record.payload)}


def _can_be_sent(value: str) -> bool:
    """Whether it is a field value of visible characters, spaces, tabs and bytes beyond ASCII, which
    stand as the characters of the same numbers (RFC 9110, section 5.5; PEP 3333)."""
    return all(sign == "\t" or " " <= sign <= "~" or "\x80" <= sign <= "\xff" for sign in value)


#: ``running`` until the last webhook was answered; ``failed`` where the store or the feed gave out.
State = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ReplayStatus:
    """``by_status``: how many by HTTP status, 0 for no answer. ``failures``: the
    first of them, ``MAX_FAILURES`` at most."""

    state: State
    total: int | None
    sent: int
    delivered: int
    by_status: Mapping[int, int]
    failures: Sequence[Result]
    problem: str = ""

    @property
    def failed(self) -> int:
        return self.sent - self.delivered

    def to_json(self) -> dict[str, object]:
        return {
            "state": self.state,
            "total": self.total,
            "sent": self.sent,
            "delivered": self.delivered,
            "failed": self.failed,
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "problem": self.problem,
        }


@dataclass(slots=True, eq=False)
class Replay:
    """One run: ``records`` in their order to ``url``. :meth:`run` in one thread, the rest in any.

    With ``parallel`` more than 1, so many are on their way at once and may arrive in another order.
    ``total`` is how many there will be, where that is known. ``report`` is told of each result.
    """

    url: str
    records: Iterable[Record]
    connect: Connect
    now_s: Callable[[], int]
    secret: str = ""
    parallel: int = 1
    total: int | None = None
    report: Callable[[Result], object] = lambda result: None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taking: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _others: list[threading.Thread] = field(default_factory=list)
    _by_status: Counter[int] = field(default_factory=Counter)
    _failures: list[Result] = field(default_factory=list)
    _delivered: int = 0
    _state: State = "running"
    _problem: str = ""

    def run(self) -> ReplayStatus:
        """Send all of them; returns at the end, or soon after :meth:`stop`.

        After an exception (Ctrl-C) and :meth:`stop` it may be called again, to wait for the rest.
        """
        source = iter(self.records)
        while len(self._others) < self.parallel - 1:
            other = threading.Thread(target=self._send_all, args=(source,), daemon=True)
            other.start()
            self._others.append(other)
        self._send_all(source)
        for other in self._others:
            other.join()
        with self._lock:
            if self._state == "running":
                self._state = "stopped" if self._stopped.is_set() else "done"
        return self.status()

    def stop(self) -> None:
        """Send no more; what is on its way is waited for."""
        self._stopped.set()

    def status(self) -> ReplayStatus:
        with self._lock:
            return ReplayStatus(
                self._state,
                self.total,
                sum(self._by_status.values()),
                self._delivered,
                dict(self._by_status),
                tuple(self._failures),
                self._problem,
            )

    def _send_all(self, source: Iterator[Record]) -> None:
        try:
            with self.connect(self.url) as connection:
                while (record := self._take(source)) is not None:
                    headers = make_headers(record, self.secret, self.now_s())
                    self._note(Result(record.pair, connection.post(headers, record.payload)))
        except WebhookSyncError as error:
            self._fail(f"{error.title}: {error}")
        except Exception as error:
            self._fail(f"an unexpected error: {error!r}")
            raise

    def _take(self, source: Iterator[Record]) -> Record | None:
        with self._taking:
            return None if self._stopped.is_set() else next(source, None)

    def _fail(self, problem: str) -> None:
        self._stopped.set()
        with self._lock:
            self._state, self._problem = "failed", problem

    def _note(self, result: Result) -> None:
        with self._lock:
            self._by_status[result.outcome.status] += 1
            self._delivered += result.outcome.ok
            if not result.outcome.ok and len(self._failures) < MAX_FAILURES:
                self._failures.append(result)
            self.report(result)
