"""Replay: send stored webhooks again. A run and its results.

Requests are those of :mod:`.delivery_request`; a failure of a connection is a result.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from portable_core.errors import WebhookSyncError
from portable_core.records import Pair, Record, format_id
from portable_core.webhooks.delivery_request import (
    Connect,
    Outcome,
    describe_delivery,
    make_headers,
)

#: Failures of a run that are kept with their webhook; further ones are only counted.
MAX_FAILURES = 10_000


class ResultDocument(msgspec.Struct, frozen=True):
    """A result as a line of a file of results; ``status`` is 0 without a response."""

    id: str
    ok: bool
    status: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one webhook."""

    pair: Pair
    outcome: Outcome

    def describe(self) -> ResultDocument:
        """Return the document of this result."""
        outcome = self.outcome
        return ResultDocument(format_id(self.pair), outcome.ok, outcome.status, outcome.reason)


#: ``running`` until the last response; ``failed`` if the store or the feed failed.
State = Literal["running", "done", "stopped", "failed"]


class ReplayDocument(msgspec.Struct, frozen=True):
    """The status of a run as the console's events and ``replay --json`` show it: its totals.

    ``total`` is null if it is unknown; ``problem`` is empty unless ``state`` is ``failed``.
    """

    state: State
    total: int | None
    sent: int
    delivered: int
    failed: int
    by_status: Mapping[int, int]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ReplayStatus:
    """The status of a run.

    ``by_status``: webhooks by HTTP status, 0 without a response. ``failures``: the first ones,
    ``MAX_FAILURES`` at most.
    """

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

    def describe(self) -> ReplayDocument:
        """Return the document of this status."""
        return ReplayDocument(
            self.state,
            self.total,
            self.sent,
            self.delivered,
            self.failed,
            dict(sorted(self.by_status.items())),
            self.problem,
        )


@dataclass(slots=True, eq=False)
class Replay:
    """One run: sends ``records`` in their order to ``url``.

    :meth:`run` belongs to one thread, the other methods to any. ``parallel`` is the number of
    simultaneous requests; with more than 1 they may arrive in another order. ``total`` is the
    number of records, if it is known. ``report`` is called with each result.
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
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _others: list[threading.Thread] = field(default_factory=list)
    _by_status: Counter[int] = field(default_factory=Counter)
    _failures: list[Result] = field(default_factory=list)
    _delivered: int = 0
    _state: State = "running"
    _problem: str = ""

    def run(self) -> ReplayStatus:
        """Send all records; return at the end, or soon after :meth:`stop`.

        After an exception (Ctrl-C) and :meth:`stop`, call it again to wait for running requests.
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
        """Start no more requests; :meth:`run` waits for the running ones."""
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
                while (record := self._read_next(source)) is not None:
                    headers = make_headers(record, self.secret, self.now_s())
                    headers |= describe_delivery(record, "replayed")
                    outcome = connection.post(headers, record.payload, record.meta.query)
                    self._note(Result(record.pair, outcome))
        except WebhookSyncError as error:
            self._fail(f"{error.title}: {error}")
        except Exception as error:
            self._fail(f"an unexpected error: {error!r}")
            raise

    def _read_next(self, source: Iterator[Record]) -> Record | None:
        with self._reading:
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
