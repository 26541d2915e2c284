"""A sync as server-sent events (WHATWG HTML): its progress, then its report."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import orjson

from portable_core.errors import WebhookSyncError
from portable_core.report import SlaveReport, SyncReport

#: What ``Accept`` names to get events instead of one answer at the end.
EVENT_STREAM = "text/event-stream"

#: A comment goes out at least this often, so that a proxy sees that somebody is there.
_KEEPALIVE_S = 10.0


def stream_sync(sync: Callable[[Callable[[SlaveReport], None]], SyncReport]) -> Iterator[bytes]:
    """Run ``sync`` and yield events: ``progress`` (a slave's report so far), at last ``report``, or
    ``problem`` where no sync could be run.

    The sync runs in a thread of its own and goes on to its end when nobody listens any more.
    """
    events: queue.SimpleQueue[tuple[str, dict[str, object]]] = queue.SimpleQueue()

    def run() -> None:
        try:
            report = sync(lambda slave: events.put(("progress", slave.to_json())))
            events.put(("report", report.to_json()))
        except WebhookSyncError as error:
            problem = {"title": error.title, "status": error.status, "detail": str(error)}
            events.put(("problem", problem))
        except Exception:
            problem = {"title": "Internal error", "status": 500, "detail": "the log tells more"}
            events.put(("problem", problem))
            raise

    threading.Thread(target=run, name="sync", daemon=True).start()
    latest: dict[object, bytes] = {}
    while True:
        try:
            name, document = events.get(timeout=_KEEPALIVE_S)
        except queue.Empty:
            yield b": still at it\n\n"
            continue
        # Many steps a second are of no use to anybody: only each slave's last one is sent.
        while name == "progress" and not events.empty():
            latest[document["slave"]] = _format_event(name, document)
            name, document = events.get()
        if name == "progress":
            latest[document["slave"]] = _format_event(name, document)
        yield from latest.values()
        latest.clear()
        if name != "progress":
            yield _format_event(name, document)
            return


def _format_event(name: str, document: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(document))
