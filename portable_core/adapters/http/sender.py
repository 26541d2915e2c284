"""Deliver webhooks over HTTP, on one connection for as long as the receiver keeps it open."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from portable_core.adapters.http.tls import make_tls
from portable_core.webhooks.delivery_request import Outcome, quote_query

#: The timeout in seconds without a byte from the receiver, and for the whole of one webhook.
TIMEOUT_S = 15.0
TOTAL_S = 30.0
_MAX_RESPONSE_BYTES = 65_536
_WATCH_S = 0.1  # between two looks at the deadlines
_IDLE_LOOKS = 50  # without a deadline; then the thread ends

_FAILURES = (OSError, http.client.HTTPException, ValueError)


@contextmanager
def connect(
    url: str,
    tls: ssl.SSLContext | None = None,
    total_s: float = TOTAL_S,
    idle_s: float = TIMEOUT_S,
) -> Iterator[HttpConnection]:
    """Open a connection to ``url`` for one thread; the port ``Connect``."""
    connection = HttpConnection(url, total_s, idle_s, tls=tls)
    try:
        yield connection
    finally:
        connection.close()


class HttpConnection:
    """A connection to a receiver. A redirect is not followed: it is a failure, as any non-2xx."""

    def __init__(
        self,
        url: str,
        total_s: float = TOTAL_S,
        idle_s: float = TIMEOUT_S,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._total_s, self._idle_s = total_s, idle_s
        self._expired = threading.Event()
        self._sock: socket.socket | None = (
            None  # http.client drops its own reference before the response is read
        )
        parts = urlsplit(url)
        self._path = parts.path or "/"
        self._query = parts.query
        host = parts.hostname or ""
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            self._http = http.client.HTTPSConnection(
                host, parts.port, timeout=idle_s, context=tls or make_tls("")
            )
        else:
            self._http = http.client.HTTPConnection(host, parts.port, timeout=idle_s)
        self._used = False

    def post(self, headers: Mapping[str, str], body: bytes, query: str = "") -> Outcome:
        """Send one ``POST``. A connection that the receiver has closed is opened once more."""
        reused = self._used
        self._expired.clear()
        queries = "&".join(filter(None, (self._query, quote_query(query))))
        target = f"{self._path}?{queries}" if queries else self._path
        _WATCHDOG.watch(self, time.monotonic() + self._total_s)
        try:
            return self._post(target, headers, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            if not reused or self._expired.is_set():
                return self._fail(error)
            try:
                return self._post(target, headers, body)
            except _FAILURES as again:
                return self._fail(again)
        except _FAILURES as error:
            return self._fail(error)
        finally:
            _WATCHDOG.leave(self)

    def expire(self) -> None:
        """End the request in progress, from another thread."""
        self._expired.set()
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # ends a blocking read at once

    def _fail(self, error: Exception) -> Outcome:
        self.close()
        if self._expired.is_set():
            return Outcome(0, f"no complete response within {self._total_s:g} s")
        return Outcome(0, self._explain(error))

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is invalid: {error.verify_message}"
        if isinstance(error, TimeoutError):
            return f"no response within {self._idle_s:g} s"
        return f"{type(error).__name__}: {error}"[:200]

    def _post(self, target: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        self._http.request("POST", target, body=body, headers=dict(headers))
        self._sock = self._http.sock
        self._used = True
        response = self._http.getresponse()
        if self._expired.is_set():  # a head that was cut looks like a complete one
            raise TimeoutError
        retry_after = response.headers.get("Retry-After", "")[:100]
        outcome = Outcome(response.status, response.reason[:100], retry_after)
        # The status decides; the rest only decides whether the connection can be reused.
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read(_MAX_RESPONSE_BYTES)
        if not response.isclosed():
            self.close()
        return outcome

    def close(self) -> None:
        self._http.close()
        self._used = False


class _Watchdog:
    """One thread that ends requests at their deadlines; it runs while there are requests.

    A receiver that sends a byte now and then never causes a timeout of the socket.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[HttpConnection, float] = {}
        self._runs = False

    def watch(self, connection: HttpConnection, deadline: float) -> None:
        """End the request of ``connection`` at ``deadline``, unless it leaves before."""
        with self._lock:
            self._deadlines[connection] = deadline
            if self._runs:
                return
            self._runs = True
        threading.Thread(target=self._run, name="delivery deadlines", daemon=True).start()

    def leave(self, connection: HttpConnection) -> None:
        with self._lock:
            self._deadlines.pop(connection, None)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_WATCH_S)
            now = time.monotonic()
            with self._lock:
                idle = 0 if self._deadlines else idle + 1
                if idle > _IDLE_LOOKS:
                    self._runs = False
                    return
                # Below the lock, so that no later request of the same connection is ended.
                for connection in [c for c, end in self._deadlines.items() if end <= now]:
                    connection.expire()


_WATCHDOG = _Watchdog()
