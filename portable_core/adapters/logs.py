"""Logs: one JSON object a line for machines, plain text on a terminal.

The JSON follows Google Cloud's structured logging (the special fields ``severity``, ``message``,
``time`` and ``logging.googleapis.com/trace``); any other reader of lines can parse it too.

A line never contains payloads or credentials:

- Known secrets, and text that looks like a credential, are replaced by ``***``.
- Of an error that is neither of the core nor of the operating system, only the type and the place
  are logged: its text might quote a payload.
- The same holds for a traceback that a server has rendered into a message.
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

#: Longest message of a line, in characters. (Google accepts entries of up to 256 KiB.)
MAX_MESSAGE = 8 * 1024

#: Shorter secrets are not redacted: they occur in other text by chance.
_MIN_SECRET = 4
_REDACTED = "***"

#: The names of Python's levels that Google's ``LogSeverity`` has too.
_SEVERITIES = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
_CREDENTIALS = re.compile(
    r"(?P<scheme>\b(?:Bearer|Basic)\s+)\S+|\beyJ[\w-]*\.[\w-]+\.[\w-]*|\bwhsec_\S+",
    re.IGNORECASE,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


# -- traces ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a request: IDs of 32 and 16 hexadecimal digits, and whether it is sampled."""

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
    """Return the trace that the headers ``traceparent`` and ``X-Cloud-Trace-Context`` name.

    ``traceparent`` has precedence. Malformed headers are ignored; without any, return None.
    """
    if match := _TRACEPARENT.fullmatch((traceparent or "").strip()):
        return Trace(match[1], match[2], bool(int(match[3], 16) & 1))
    if match := _CLOUD_TRACE.fullmatch((cloud_trace or "").strip()):
        span = int(match[2] or 0)
        return Trace(match[1].lower(), f"{span:016x}" if 0 < span < 2**64 else "", match[3] == "1")
    return None


def begin_request(read_header: Callable[[str], str | None]) -> None:
    """Set the trace of the request that this thread serves from now on.

    ``read_header`` returns a header's value by its name. Call this at the start of every request,
    including one without a trace: otherwise the trace of an earlier request stays.
    """
    parent, cloud_trace = read_header("traceparent"), read_header("X-Cloud-Trace-Context")
    _current.set(parse_trace(parent, cloud_trace) if parent or cloud_trace else None)


# -- lines -----------------------------------------------------------------------------------------


class _Formatter(logging.Formatter):
    """The base of both forms: a message without secrets, errors without payloads."""

    def __init__(self, secrets: Iterable[str] = (), project: str = "") -> None:
        super().__init__()
        known = {secret for secret in secrets if len(secret) >= _MIN_SECRET}
        known_first = sorted(known, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known_first))) if known else None
        self._project = project

    def describe(self, record: logging.LogRecord) -> str:
        """Return the message, redacted and of bounded length."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # with wrong arguments, the format alone is still of use
            message = str(record.msg)
        return self._clean(_cut_traceback(message))

    def describe_error(self, record: logging.LogRecord) -> str:
        """Return the error of a line logged with ``exc_info``, as Python prints it; else empty."""
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
        text = _CREDENTIALS.sub(lambda match: (match["scheme"] or "") + _REDACTED, text)
        if self._secrets is not None:
            text = self._secrets.sub(_REDACTED, text)
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
    """Text for people: local time, level, message; an error on the lines below."""

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
    """Return the message; of a traceback in it, keep only the frames and the error's type.

    A server may render an application's error into its message (some do). The text after the type
    may look like anything, including more frames.
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
    """Write this process's log lines to ``stream`` (default: standard error).

    ``secrets`` are redacted wherever they occur; ``project`` is the Google Cloud project of the
    traces. A second call replaces the first one.
    """
    stream = sys.stderr if stream is None else stream
    make = TextFormatter if stream.isatty() else JsonFormatter
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make(secrets, project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("portable_core").setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


class LogObserver(Observer):
    """Keeps the trace of each request for its log lines, and logs what syncs have found."""

    def begin_request(self, read_header: Callable[[str], str | None]) -> None:
        begin_request(read_header)

    def observe_sync(self, report: SyncReport) -> None:
        """Log a line for each slave with recovered webhooks, and warnings.

        A warning stands for each slave that was not synced and each source that lacks a rule.
        """
        for slave in report.slaves:
            if slave.saved:
                logging.getLogger(__name__).info(
                    "slave %s: %d webhooks recovered, %d of them repeats of others",
                    *(slave.slave, slave.saved, slave.repeats),
                )
            for source, members in slave.similar.items():
                logging.getLogger(__name__).warning(
                    "slave %s: webhooks of the source %r differ from the master's only in %s; "
                    "add an identity rule to SOURCES_FILE",
                    *(slave.slave, source, ", ".join(members)),
                )
            if slave.ok:
                continue
            title = _QUOTING.get(slave.error_type)
            text = slave.error if title is None else f"{title}: its report says where"
            logging.getLogger(__name__).warning("slave %s: %s", slave.slave, text)


def adopt_loggers(*names: str) -> None:
    """Send the lines of loggers with handlers of their own to the root logger instead."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, frames: TracebackType | None
) -> None:
    if isinstance(error, Exception):  # not Ctrl-C
        logging.getLogger(__name__).critical("uncaught error", exc_info=(kind, error, frames))
