"""Log lines as machines and people read them, and what must never be in one."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from portable_core.adapters.flask_app import create_app
from portable_core.adapters.logs import (
    MAX_MESSAGE,
    JsonFormatter,
    TextFormatter,
    begin_request,
    configure_logs,
    parse_trace,
)
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import StoreError, Unauthorized
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.slave import Slave

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENV = {
    "SYNC_TOKENS": "correct-horse,battery-staple",
    "SOURCES": "github=github:hub-secret,shop=hmac-sha256@X-Shop:shop=secret",
    "HASH": "blake2b",
    "HASH_KEY": "a,key,with,commas",
    "STORE": "memory:",
}
SECRETS = ("correct-horse", "battery-staple", "hub-secret", "shop=secret", "a,key,with,commas")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)
    begin_request(lambda name: None)


def write(log: Any, stream: io.StringIO | None = None, env: dict[str, str] = ENV) -> str:
    """What ``log``, called with a logger of the project, writes."""
    stream = stream or io.StringIO()
    settings = Settings.from_env("slave", env)
    configure_logs(settings.secrets(), settings.google_project, stream)
    log(logging.getLogger("portable_core.test"))
    return stream.getvalue()


def read(text: str) -> dict[str, Any]:
    assert text.endswith("\n")
    assert text.count("\n") == 1, "one line"
    line: dict[str, Any] = json.loads(text)
    return line


def test_a_line_is_one_json_object_with_severity_message_and_time() -> None:
    line = read(write(lambda log: log.warning("disk %s\nis full", "ä\ud83d")))
    assert line["severity"] == "WARNING"
    assert line["message"] == "disk ä\ud83d\nis full"
    assert line["logger"] == "portable_core.test"
    assert line["time"].endswith("Z")
    told = datetime.fromisoformat(line["time"])
    assert abs((datetime.now(told.tzinfo) - told).total_seconds()) < 60


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical"])
def test_levels_have_googles_names(level: str) -> None:
    assert read(write(lambda log: getattr(log, level)("x")))["severity"] == level.upper()
    assert write(lambda log: log.debug("x")) == ""


def test_a_level_of_its_own_has_no_severity() -> None:
    assert read(write(lambda log: log.log(25, "x")))["severity"] == "DEFAULT"


def test_on_a_terminal_it_is_text_for_people() -> None:
    text = write(lambda log: log.error("disk is full\r\nINFO forged \x1b[2J"), Terminal())
    assert text.endswith(r"error    disk is full\r\nINFO forged \x1b[2J" + "\n")
    assert text.count("\n") == 1


def test_wrong_arguments_do_not_lose_the_line() -> None:
    assert read(write(lambda log: log.info("%d of %d", "x")))["message"] == "%d of %d"


def test_long_messages_end_somewhere() -> None:
    message = read(write(lambda log: log.info("x" * 1_000_000)))["message"]
    assert len(message) < MAX_MESSAGE + 50
    assert message.endswith("(1000000 characters)")


# -- traces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traceparent", "cloud_trace", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", None, (TRACE, "00f067aa0ba902b7", True)),
        (f"00-{TRACE}-00f067aa0ba902b7-00", None, (TRACE, "00f067aa0ba902b7", False)),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", None, (TRACE, "00f067aa0ba902b7", True)),
        (None, f"{TRACE}/1;o=1", (TRACE, "0000000000000001", True)),
        (None, f"{TRACE.upper()}/18446744073709551615;o=0", (TRACE, "f" * 16, False)),
        (None, f"{TRACE}", (TRACE, "", False)),
        (f"00-{TRACE}-00f067aa0ba902b7-01", f"{'a' * 32}/1", (TRACE, "00f067aa0ba902b7", True)),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None, None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None, None),
        (f"00-{TRACE}-{'0' * 16}-01", None, None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None, None),
        ("nonsense", "nonsense", None),
        (None, f"{TRACE}/{'9' * 30}", None),
        (None, None, None),
    ],
)
def test_traces_are_read_from_both_headers(
    traceparent: str | None, cloud_trace: str | None, expected: tuple[str, str, bool] | None
) -> None:
    trace = parse_trace(traceparent, cloud_trace)
    assert expected == (None if trace is None else (trace.trace, trace.span, trace.sampled))


def test_a_line_names_its_requests_trace_as_google_wants_it() -> None:
    begin_request({"X-Cloud-Trace-Context": f"{TRACE}/10;o=1"}.get)
    line = read(write(lambda log: log.info("x"), env={**ENV, "GOOGLE_CLOUD_PROJECT": "my-project"}))
    assert line["logging.googleapis.com/trace"] == f"projects/my-project/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == "000000000000000a"
    assert line["logging.googleapis.com/trace_sampled"] is True


def test_elsewhere_a_line_names_the_trace_alone() -> None:
    begin_request({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}.get)
    assert read(write(lambda log: log.info("x")))["trace"] == TRACE


def test_a_trace_stays_with_its_thread_and_ends_with_the_next_request() -> None:
    begin_request({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}.get)
    stream = io.StringIO()
    configure_logs(stream=stream)
    log = logging.getLogger("portable_core.test")
    other = threading.Thread(target=log.info, args=("from another request",))
    other.start()
    other.join()
    begin_request(lambda name: None)
    log.info("the next request")
    assert all("trace" not in json.loads(line) for line in stream.getvalue().splitlines())


# -- what must not be in a line --------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", [JsonFormatter, TextFormatter])
def test_secrets_are_blotted_out(secret: str, form: type[JsonFormatter]) -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "x", 1, "got <%s>", (secret,), (OSError, OSError(secret), None)
    )
    text = form(Settings.from_env("slave", ENV).secrets()).format(record)
    assert secret not in text
    assert "got <***>" in text


@pytest.mark.parametrize(
    "credential",
    [
        "Authorization: Bearer abc.DEF-123",
        "authorization: basic dXNlcjpwYXNz",
        "token eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl",
        "key whsec_C2FVsBQIhrscChlQIMV",
    ],
)
def test_what_looks_like_a_credential_is_blotted_out(credential: str) -> None:
    message = read(write(lambda log: log.info("sent %s", credential)))["message"]
    assert credential.split()[-1] not in message
    assert message.endswith("***")


def test_an_error_tells_its_place_but_its_text_only_where_it_is_safe() -> None:
    customer = "@".join(["customer", "example.com"])

    def fail(log: logging.Logger) -> None:
        try:
            try:
                raise StoreError("no space left")
            except StoreError as error:
                raise ValueError(f"cannot parse {customer!r}") from error
        except ValueError:
            log.exception("oops")

    stack = read(write(fail))["stack_trace"]
    assert customer not in stack
    assert "ValueError" in stack
    assert "StoreError: no space left" in stack
    assert "test_logs.py" in stack
    assert customer not in write(fail, Terminal())


@pytest.mark.parametrize(
    "wrong",
    [
        "ValueError: secret",
        'ValueError: a\nsecret\n  File "secret", line 1, in secret\n    secret',
        "ValueError\n\nDuring handling:\n\nTraceback (most recent call last):\nKeyError: secret",
        "  | ExceptionGroup: secret (1 sub-exception)",
        '  File "<string>", line 1\n    secret +\nSyntaxError: secret',
        "",
    ],
)
def test_of_a_rendered_traceback_frames_and_type_are_left(wrong: str) -> None:
    frames = 'Traceback (most recent call last):\n  File "x.py", line 3, in f\n    f(1)\n    ^^^^'
    message = read(write(lambda log: log.error("it failed\n%s\n%s", frames, wrong)))["message"]
    assert message.startswith(f"it failed\n{frames}\n")
    assert message.endswith("\nValueError" if wrong.startswith("V") else "\nan error")
    assert "secret" not in message


def test_a_trip_through_every_failure_leaves_no_payload_and_no_secret_in_the_log() -> None:
    """A webhook with a marked payload, refused in every way there is."""
    marked = "payload-marker"
    settings = Settings.from_env("slave", {**ENV, "MAX_BODY_BYTES": "1000"})
    store = BrokenStore()
    faults: list[Exception] = []

    def decide(*_: object) -> Admit:
        if faults:
            raise faults.pop()
        return Admit()

    receiver = Receiver(settings, store, SystemClock())
    node = Node(settings, receiver, lambda header: None, decide, slave=Slave(receiver))
    stream = io.StringIO()
    configure_logs(settings.secrets(), stream=stream)
    client = create_app(node).test_client()
    body = b'{"a":"%s"}' % marked.encode()
    statuses = []
    for sent in (body, body[:-1], body + b"x", b"[%s]" % body, body * 500, b"\xff" + body):
        statuses.append(client.post("/webhook/github", data=sent).status_code)
    for fault in (Unauthorized(ENV["SYNC_TOKENS"]), ValueError(marked), KeyError(body)):
        faults.append(fault)
        statuses.append(client.post("/webhook/github", data=body).status_code)
    assert statuses == [503, 400, 400, 400, 413, 400, 401, 500, 500]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["severity"] for line in lines] == [*["WARNING"] * 4, "ERROR", "ERROR"]
    assert marked not in stream.getvalue()
    assert not any(secret in stream.getvalue() for secret in SECRETS)


class BrokenStore(MemoryStore):
    def append(self, records: Any, deadline: float | None = None) -> None:
        raise StoreError("no space left")


# -- a whole process -------------------------------------------------------------------------------


def test_uncaught_errors_and_warnings_are_lines_too() -> None:
    code = """
import threading, warnings
from portable_core.adapters.logs import configure_logs
configure_logs()
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
raise KeyError("a payload")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["severity"] for line in lines] == ["WARNING", "CRITICAL", "CRITICAL"]
    assert "ZeroDivisionError" in lines[1]["stack_trace"]
    assert "a payload" not in done.stderr.replace('raise KeyError("a payload")', "")
