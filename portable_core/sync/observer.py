"""The port through which a node reports what it does: to metrics, to the log, to tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from portable_core.sync.report import SyncReport


class Observer:
    """Called with events of one node. This base class ignores all of them.

    Methods are called from any thread, are quick, and raise nothing.
    """

    def begin_request(self, read_header: Callable[[str], str | None]) -> None:
        """Note that this thread begins an HTTP request; ``read_header`` returns a header."""

    def observe_webhook(self, source: str, outcome: str, seconds: float) -> None:
        """Note the response to a webhook. ``outcome`` is ``kept`` or the name of a problem."""

    def observe_kept(self, source: str, seconds: Sequence[float]) -> None:
        """Note the responses to webhooks of one source that were kept together."""
        for each in seconds:
            self.observe_webhook(source, "kept", each)

    def observe_commit(self, records: int, seconds: float, done: bool) -> None:
        """Note the end of a commit of so many records; ``done`` is whether it succeeded."""

    def observe_sync(self, report: SyncReport) -> None:
        """Note the report of a sync that has ended."""


class Observers(Observer):
    """Passes every event on to several observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        # Two events of each webhook: only those are called that do something.
        self._requests = [
            observer.begin_request
            for observer in observers
            if type(observer).begin_request is not Observer.begin_request
        ]
        self._webhooks = [
            observer.observe_webhook
            for observer in observers
            if type(observer).observe_webhook is not Observer.observe_webhook
        ]

    def begin_request(self, read_header: Callable[[str], str | None]) -> None:
        for begin_request in self._requests:
            begin_request(read_header)

    def observe_webhook(self, source: str, outcome: str, seconds: float) -> None:
        for observe_webhook in self._webhooks:
            observe_webhook(source, outcome, seconds)

    def observe_kept(self, source: str, seconds: Sequence[float]) -> None:
        for observer in self._observers:
            observer.observe_kept(source, seconds)

    def observe_commit(self, records: int, seconds: float, done: bool) -> None:
        for observer in self._observers:
            observer.observe_commit(records, seconds, done)

    def observe_sync(self, report: SyncReport) -> None:
        for observer in self._observers:
            observer.observe_sync(report)
