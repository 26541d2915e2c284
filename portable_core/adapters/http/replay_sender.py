"""Sends webhooks again over HTTP (http.client), on one connection as long as that lives."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from portable_core.webhooks.replay import Outcome

#: How long the receiver may be silent, how long all of one webhook may take, in seconds, and how
#: much of its answer is read.
TIMEOUT_S = 15.0
TOTAL_S = 30.0
_MAX_ANSWER_BYTES = 65_536

_FAILURES = (OSError, http.client.HTTPException, ValueError)


@contextmanager
def connect(url: str) -> Iterator[HttpConnection]:
    """A way to ``url`` for one thread; the port ``Connect``."""
    connection = HttpConnection(url)
    try:
        yield connection
    finally:
        connection.close()


class HttpConnection:
    """Redirects are answers like any other: not 2xx, and not followed."""

    def __init__(self, url: str, total_s: float = TOTAL_S) -> None:
        self._total_s = total_s
        self._expired = threading.Event()
        self._sock: socket.socket | None = (
            None  # the connection lets go of it before the answer is read
        )
        parts = urlsplit(url)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.hostname or ""
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            self._http = http.client.HTTPSConnection(
                host, parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            self._http = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
        self._used = False

    def post(self, headers: Mapping[str, str], body: bytes) -> Outcome:
        """One ``POST``. A connection that the receiver closed meanwhile is opened once more."""
        reused = self._used
        self._expired.clear()
        # A receiver that sends a byte now and then is never silent, and never done.
        timer = threading.Timer(self._total_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            return self._post(headers, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            if not reused or self._expired.is_set():
                return self._fail(error)
            try:
                return self._post(headers, body)
            except _FAILURES as again:
                return self._fail(again)
        except _FAILURES as error:
            return self._fail(error)
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._expired.set()
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # whatever reads it ends at once

    def _fail(self, error: Exception) -> Outcome:
        self.close()
        if self._expired.is_set():
            return Outcome(0, f"no whole answer within {self._total_s:g} s")
        return Outcome(0, _explain(error))

    def _post(self, headers: Mapping[str, str], body: bytes) -> Outcome:
        self._http.request("POST", self._path, body=body, headers=dict(headers))
        self._sock = self._http.sock
        self._used = True
        answer = self._http.getresponse()
        if self._expired.is_set():  # what was cut looks like the end of the head
            raise TimeoutError
        outcome = Outcome(answer.status, answer.reason[:100])
        # The status is there; what becomes of the rest only decides about the connection.
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer.read(_MAX_ANSWER_BYTES)
        if not answer.isclosed():
            self.close()
        return outcome

    def close(self) -> None:
        self._http.close()
        self._used = False


def _explain(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return f"{type(error).__name__}: {error}"[:200]
