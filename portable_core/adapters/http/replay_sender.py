"""Send webhooks again over HTTP, on one connection for as long as the receiver keeps it open."""

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

#: The timeout in seconds without a byte from the receiver, and for the whole of one webhook.
TIMEOUT_S = 15.0
TOTAL_S = 30.0
_MAX_RESPONSE_BYTES = 65_536

_FAILURES = (OSError, http.client.HTTPException, ValueError)


@contextmanager
def connect(url: str) -> Iterator[HttpConnection]:
    """Open a connection to ``url`` for one thread; the port ``Connect``."""
    connection = HttpConnection(url)
    try:
        yield connection
    finally:
        connection.close()


class HttpConnection:
    """A connection to a receiver. A redirect is not followed: it is a failure, as any non-2xx."""

    def __init__(self, url: str, total_s: float = TOTAL_S) -> None:
        self._total_s = total_s
        self._expired = threading.Event()
        self._sock: socket.socket | None = (
            None  # http.client drops its own reference before the response is read
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
        """Send one ``POST``. A connection that the receiver has closed is opened once more."""
        reused = self._used
        self._expired.clear()
        # A receiver that sends a byte now and then never causes a timeout of the socket.
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
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # ends a blocking read at once

    def _fail(self, error: Exception) -> Outcome:
        self.close()
        if self._expired.is_set():
            return Outcome(0, f"no complete response within {self._total_s:g} s")
        return Outcome(0, _explain(error))

    def _post(self, headers: Mapping[str, str], body: bytes) -> Outcome:
        self._http.request("POST", self._path, body=body, headers=dict(headers))
        self._sock = self._http.sock
        self._used = True
        response = self._http.getresponse()
        if self._expired.is_set():  # a head that was cut looks like a complete one
            raise TimeoutError
        outcome = Outcome(response.status, response.reason[:100])
        # The status decides; the rest only decides whether the connection can be reused.
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read(_MAX_RESPONSE_BYTES)
        if not response.isclosed():
            self.close()
        return outcome

    def close(self) -> None:
        self._http.close()
        self._used = False


def _explain(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is invalid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no response within {TIMEOUT_S:.0f} s"
    return f"{type(error).__name__}: {error}"[:200]
