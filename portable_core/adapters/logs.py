"""Logs: one JSON object a line where a machine reads them, plain text on a terminal.

The JSON is what Google Cloud's logging agents take apart ("structured logging", the special fields
``severity``, ``message``, ``time`` and ``logging.googleapis.com/trace``); everything else that
reads logs by line takes it as well.

What a webhook carried and what opens a door never gets into a line: known secrets and everything
that looks like a credential are blotted out, and of an error that is not of the core or of the
operating system only its type and place are told, because its text might quote a payload. That
holds for a traceback that somebody else has put into a message, too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from types import TracebackType
from typing import TextIO

from portable_core.errors import MalformedStream, StreamTooLarge, WebhookSyncError
from portable_core.sync.observer import Observer
from portable_core.sync.report import SyncReport

#: A line holds at most so many characters of message; Google takes entries of up to 256 KiB.
MAX_MESSAGE = 8 * 1024

#: Values shorter than this are too common to be blotted out wherever they occur.
_MIN_SECRET = 4
_BLOT = "***"

#: The names of Python's levels that are also names of Google's ``LogSeverity``.
_SEVERITIES = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
_CREDENTIALS = re.compile(
    r"(?P<scheme>\b(?:Bearer|Basic)\s+)\S+|\beyJ[\w-]*\.[\w-]+\.[\w-]*|\bwhsec_\S+",
    re.IGNORECASE,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


# -- traces ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a request belongs to: 32 and 16 hexadecimal digits, and whether it is kept."""

    trace: str
    span: str = ""
    sampled: bool = False


_current: ContextVar[Trace | None] = ContextVar("webhook_sync_trace", default=None)

# W3C Trace Context, section 3.2: version ff and identifiers of zeros only are invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
# Google Cloud, "Trace context": TRACE_ID/SPAN_ID;o=OPTIONS, the span as a decimal number.
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")


def parse_trace(traceparent: str | None, cloud_trace: str | None) -> Trace | None:
    """The trace that the headers ``traceparent`` and ``X-Cloud-Trace-Context`` name, None if none.

    The former counts where both are there. Whatever has not their form is ignored.
    """
    if match := _TRACEPARENT.fullmatch((traceparent or "").strip()):
        return Trace(match[1], match[2], bool(int(match[3], 16) & 1))
    if match := _CLOUD_TRACE.fullmatch((cloud_trace or "").strip()):
        span = int(match[2] or 0)
        return Trace(match[1].lower(), f"{span:016x}" if 0 < span < 2**64 else "", match[3] == "1")
    return None


def begin_request(read_header: Callable[[str], str | None]) -> None:
    """Remember the trace of the request that this thread works on from now on.

    ``read_header`` returns a header's value by its name. To be called at the start of every
    request, also of one without a trace: the thread has served others.
    """
    _current.set(parse_trace(read_header("traceparent"), read_header("X-Cloud-Trace-Context")))


# -- lines -----------------------------------------------------------------------------------------


class _Formatter(logging.Formatter):
    """What both forms have in common: a message without secrets, and errors without payloads."""

    def __init__(self, secrets: Iterable[str] = (), project: str = "") -> None:
        super().__init__()
        known = {secret for secret in secrets if len(secret) >= _MIN_SECRET}
        known_first = sorted(known, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known_first))) if known else None
        self._project = project

    def describe(self, record: logging.LogRecord) -> str:
        """The message, clean and of bounded length."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # a line with wrong arguments is still worth its text
            message = str(record.msg)
        return self._clean(_cut_traceback(message))

    def describe_error(self, record: logging.LogRecord) -> str:
        """The error of a line logged with ``exc_info``, in Python's form; empty without one."""
        if not record.exc_info or record.exc_info[1] is None:
            return ""
        error: BaseException | None = record.exc_info[1]
        parts: list[str] = []
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            parts.append(self._clean(_describe_one(error)))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nThe above came from or with this one:\n".join(parts)

    def _clean(self, text: str) -> str:
        text = _CREDENTIALS.sub(lambda match: (match["scheme"] or "") + _BLOT, text)
        if self._secrets is not None:
            text = self._secrets.sub(_BLOT, text)
        if len(text) > MAX_MESSAGE:
            text = f"{text[:MAX_MESSAGE]}… ({len(text)} characters)"
        return text


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "severity": record.levelname if record.levelname in _SEVERITIES else "DEFAULT",
            "message": self.describe(record),
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "logger": record.name,
        }
        if stack := self.describe_error(record):
            line["stack_trace"] = stack
        if trace := _current.get():
            line.update(self._describe_trace(trace))
        return json.dumps(line)

    def _describe_trace(self, trace: Trace) -> dict[str, object]:
        if not self._project:
            return {"trace": trace.trace}
        line: dict[str, object] = {
            "logging.googleapis.com/trace": f"projects/{self._project}/traces/{trace.trace}",
            "logging.googleapis.com/trace_sampled": trace.sampled,
        }
        if trace.span:
            line["logging.googleapis.com/spanId"] = trace.span
        return line


class TextFormatter(_Formatter):
    """For people: local time, the level, the message; an error on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).astimezone()
        message = _CONTROLS.sub(lambda match: repr(match[0])[1:-1], self.describe(record))
        line = f"{time:%H:%M:%S} {record.levelname.lower():<8} {message}"
        stack = self.describe_error(record)
        return f"{line}\n{stack}" if stack else line


def _describe_one(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    text = f": {error}" if isinstance(error, WebhookSyncError | OSError) and str(error) else ""
    return f"Traceback (most recent call last):\n{frames}\n{name}{text}" if frames else name + text


_TRACEBACK = "Traceback (most recent call last):\n"
_FRAME = re.compile(r'  File ".*", line \d+, in .+|  \[Previous line repeated .*|    .*')
_KIND = re.compile(r"[^\W\d][\w.]*(?=:|$)")


def _cut_traceback(message: str) -> str:
    """The message, of a traceback in it only the frames and the error's type.

    A server may render the error of an application into its message (granian does). What follows
    the type is the error's text, and that may look like anything, also like more frames.
    """
    before, head, rest = message.partition(_TRACEBACK)
    if not head:
        return message
    lines = rest.split("\n")
    frames = list(takewhile(_FRAME.fullmatch, lines))
    kind = _KIND.match(lines[len(frames)]) if len(frames) < len(lines) else None
    return before + head + "\n".join([*frames, kind[0] if kind else "an error"])


# -- setting up ------------------------------------------------------------------------------------

#: The errors whose texts quote parts of records: the titles by the names of the classes.
_QUOTING = {kind.__name__: kind.title for kind in (MalformedStream, StreamTooLarge)}


def configure_logs(
    secrets: Iterable[str] = (), project: str = "", stream: TextIO | None = None
) -> None:
    """Write this process's log lines to ``stream`` (standard error), each in its form.

    ``secrets`` are redacted wherever they occur, apart from those too short to be told from other
    text; ``project`` is the Google Cloud project of the traces. Call it again to replace both.
    """
    stream = sys.stderr if stream is None else stream
    make = TextFormatter if stream.isatty() else JsonFormatter
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make(secrets, project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("portable_core", "_granian"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


class LogObserver(Observer):
    """Keeps the trace of each request for its log lines, and logs the slaves not synced."""

    def begin_request(self, read_header: Callable[[str], str | None]) -> None:
        begin_request(read_header)

    def observe_sync(self, report: SyncReport) -> None:
        """Log one warning for each slave that was not synced, with the error of its report."""
        for slave in report.slaves:
            if slave.ok:
                continue
            title = _QUOTING.get(slave.error_type)
            text = slave.error if title is None else f"{title}: its report says where"
            logging.getLogger(__name__).warning("slave %s: %s", slave.slave, text)


def adopt_loggers(*names: str) -> None:
    """Send the lines of loggers that have handlers of their own to the root's instead."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, frames: TracebackType | None
) -> None:
    if isinstance(error, Exception):  # not Ctrl-C
        logging.getLogger(__name__).critical("an uncaught error", exc_info=(kind, error, frames))
