"""A sync as server-sent events (WHATWG HTML): its progress, then its report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator

import msgspec

from portable_core.errors import WebhookSyncError
from portable_core.problems import describe_fault, describe_problem
from portable_core.sync.report import SlaveReport, SyncReport

#: The value of ``Accept`` for events instead of one response at the end.
EVENT_STREAM = "text/event-stream"

#: A comment is sent at least this often, so that a proxy keeps the connection open.
_KEEPALIVE_S = 10.0


def stream_sync(sync: Callable[[Callable[[SlaveReport], None]], SyncReport]) -> Iterator[bytes]:
    """Run ``sync`` and yield events.

    The events are ``progress`` (a slave's report so far), and at the end ``report``, or ``problem``
    if no sync could be run.

    The sync runs in a thread of its own, and to its end, even if the client disconnects.
    """
    events = _Events()

    def run() -> None:
        try:
            report = sync(events.report)
            events.end("report", msgspec.json.encode(report.to_json()))
        except WebhookSyncError as error:
            events.end("problem", describe_problem(error).body)
        except Exception as error:  # noqa: BLE001  # the stream ends with it; logged
            events.end("problem", describe_fault(error).body)

    threading.Thread(target=run, name="sync", daemon=True).start()
    while True:
        reports, end = events.wait(_KEEPALIVE_S)
        for report in reports:
            yield _format_event("progress", msgspec.json.encode(report.to_json()))
        if end is not None:
            yield _format_event(*end)
            return
        if not reports:
            yield b": still running\n\n"


class _Events:
    """The unsent events of a sync.

    Only the last report of each slave is kept: many reports a second would pile up behind a client
    that is slow or has disconnected.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reports: dict[str, SlaveReport] = {}
        self._end: tuple[str, bytes] | None = None

    def report(self, report: SlaveReport) -> None:
        with self._changed:
            self._reports[report.slave] = report
            self._changed.notify()

    def end(self, name: str, document: bytes) -> None:
        with self._changed:
            self._end = name, document
            self._changed.notify()

    def wait(self, wait_s: float) -> tuple[Collection[SlaveReport], tuple[str, bytes] | None]:
        """Wait for reports. Return those since the last call, and the final event if there is one.

        The final event is its name and its document.
        """
        with self._changed:
            if not self._reports and self._end is None:
                self._changed.wait(wait_s)
            reports, self._reports = self._reports, {}
            return reports.values(), self._end


def _format_event(name: str, document: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), document)
