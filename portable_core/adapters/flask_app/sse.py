"""A sync as server-sent events (WHATWG HTML): its progress, then its report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator

import orjson

from portable_core.errors import WebhookSyncError
from portable_core.sync.report import SlaveReport, SyncReport

#: The value of ``Accept`` for events instead of one response at the end.
EVENT_STREAM = "text/event-stream"

#: A comment is sent at least this often, so that a proxy keeps the connection open.
_KEEPALIVE_S = 10.0


def stream_sync(sync: Callable[[Callable[[SlaveReport], None]], SyncReport]) -> Iterator[bytes]:
    """Run ``sync`` and yield events: ``progress`` (a slave's report so far), at the end ``report``,
    or ``problem`` if no sync could be run.

    The sync runs in a thread of its own, and to its end, even if the client disconnects.
    """
    events = _Events()

    def run() -> None:
        try:
            report = sync(events.report)
            events.end("report", report.to_json())
        except WebhookSyncError as error:
            problem = {"title": error.title, "status": error.status, "detail": str(error)}
            events.end("problem", problem)
        except Exception:
            problem = {"title": "Internal error", "status": 500, "detail": "see the node's log"}
            events.end("problem", problem)
            raise

    threading.Thread(target=run, name="sync", daemon=True).start()
    while True:
        reports, end = events.wait(_KEEPALIVE_S)
        for report in reports:
            yield _format_event("progress", report.to_json())
        if end is not None:
            yield _format_event(*end)
            return
        if not reports:
            yield b": still running\n\n"


class _Events:
    """The events of a sync that were not sent yet.

    Only the last report of each slave is kept: many reports a second would pile up behind a client
    that is slow or has disconnected.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reports: dict[str, SlaveReport] = {}
        self._end: tuple[str, dict[str, object]] | None = None

    def report(self, report: SlaveReport) -> None:
        with self._changed:
            self._reports[report.slave] = report
            self._changed.notify()

    def end(self, name: str, document: dict[str, object]) -> None:
        with self._changed:
            self._end = name, document
            self._changed.notify()

    def wait(
        self, wait_s: float
    ) -> tuple[Collection[SlaveReport], tuple[str, dict[str, object]] | None]:
        """Wait for reports; return those since the last call, and the final event if there is one:
        its name and its document."""
        with self._changed:
            if not self._reports and self._end is None:
                self._changed.wait(wait_s)
            reports, self._reports = self._reports, {}
            return reports.values(), self._end


def _format_event(name: str, document: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(document))
