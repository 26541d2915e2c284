"""One connection to a provider, for one request at a time, which its caller can stop.

A response is read whole, up to a limit, and never as a stream: payloads are cut out of it byte for
byte, which a streaming parser such as ijson does not allow (it replaces lone surrogates, and its C
backend ends the process at very long integers).

Redirects are not followed, and proxies of the environment are not used, as with slaves.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from portable_core.errors import AnswerInvalid, LogUnreachable
from portable_core.ports import KeepWaiting, Milliseconds

#: The largest response that is read: a page, or one webhook.
MAX_RESPONSE_BYTES = 64 * 2**20

#: The most of a response that was refused.
_MAX_REFUSAL_BYTES = 16_384

#: The timeout without a byte, for the whole of a response, and the time between two calls of the
#: caller's ``keep_waiting``.
_TIMEOUT_S = 30.0
_TOTAL_S = 120.0
_KEEP_WAITING_S = 0.5

_CHUNK = 256 * 1024
_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response. ``date`` is the provider's clock, a second early at most; None without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: Milliseconds | None


class TooLarge(AnswerInvalid):
    """A response has more than :data:`MAX_RESPONSE_BYTES`."""


class ProviderConnection:
    """A connection that is opened when it is needed. For one thread at a time."""

    def __init__(self, label: str, base: str, tls: ssl.SSLContext | None = None) -> None:
        """``base`` is the address below which all targets lie; ``label`` is for messages."""
        parts = urlsplit(base)
        self.label = label
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._tls = tls
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        wait: KeepWaiting,
    ) -> ApiResponse:
        """Return the response with any status. Raises ``LogUnreachable``, ``TooLarge``.

        An exception of ``wait``, which is called about twice a second, ends the request.
        """
        target = self._path + target
        sending = _Sending(lambda ended: self._send(method, target, headers, body, ended))
        try:
            return sending.wait(wait)
        except BaseException:
            sending.ended.set()
            self.close()
            raise

    def close(self) -> None:
        """End the request in progress, for which another thread waits. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # ends a blocking read at once
            connection.close()

    def _send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        ended: threading.Event,
    ) -> ApiResponse:
        """Send a request; once more if the provider has closed a connection that was idle."""
        fresh = self._connection is None
        try:
            try:
                return self._send_once(method, target, headers, body, ended)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if fresh or ended.is_set():
                    raise
            return self._send_once(method, target, headers, body, ended)
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error

    def _send_once(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        ended: threading.Event,
    ) -> ApiResponse:
        deadline = time.monotonic() + _TOTAL_S
        connection = self._connection
        try:
            if connection is None:
                connection = self._make_connection()
                connection.connect()
                if ended.is_set():
                    raise ConnectionAbortedError
                self._connection = connection
            connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            chunks = self._read(answer, deadline)
            if answer.will_close:
                self._drop(connection)
        except BaseException:
            if connection is not None:
                self._drop(connection)
            raise
        found = {name.lower(): value for name, value in answer.getheaders()}
        return ApiResponse(answer.status, found, b"".join(chunks), _read_date(found.get("date")))

    def _read(self, answer: http.client.HTTPResponse, deadline: float) -> list[bytes]:
        good = answer.status < 300
        most = MAX_RESPONSE_BYTES if good else _MAX_REFUSAL_BYTES
        chunks, size = [], 0
        while chunk := answer.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > most and good:
                raise TooLarge(f"{self.label}: a response has more than {most} bytes")
            if size > most:
                answer.will_close = True
                return chunks
            if time.monotonic() > deadline:
                raise TimeoutError
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        answer.close()  # which leaves the connection open
        return chunks

    def _make_connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = self._tls or ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_S, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        if self._connection is connection:
            self._connection = None

    def _explain(self, error: Exception) -> LogUnreachable:
        if isinstance(error, TimeoutError):
            return LogUnreachable(f"{self.label}: timeout: not complete in time")
        if isinstance(error, http.client.IncompleteRead):
            return LogUnreachable(f"{self.label}: the response was cut")
        text = " ".join(str(error).split())[:_EXCERPT]
        return LogUnreachable(f"{self.label}: no response: {type(error).__name__}: {text}")


class _Sending:
    """A request in a thread of its own, so that its caller can renew a lease, or stop waiting.

    ``ended``: whether the caller no longer waits.
    """

    def __init__(self, send: Callable[[threading.Event], ApiResponse]) -> None:
        self._send = send
        self._done = threading.Event()
        self._response: ApiResponse | None = None
        self._error: BaseException | None = None
        self.ended = threading.Event()

    def wait(self, keep_waiting: KeepWaiting) -> ApiResponse:
        """Send, and return the response; raise its error, or that of ``keep_waiting``."""
        threading.Thread(target=self._run, name="delivery-log", daemon=True).start()
        while not self._done.wait(_KEEP_WAITING_S):
            keep_waiting()
        if self._response is None:
            raise self._error or RuntimeError("a request ended without a response")
        return self._response

    def _run(self) -> None:
        try:
            self._response = self._send(self.ended)
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            self._error = error
        finally:
            self._done.set()


def _read_date(value: str | None) -> Milliseconds | None:
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp()) * 1000
    except (ValueError, TypeError, OverflowError):
        return None
