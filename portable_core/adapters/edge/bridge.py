"""The bridge to a WSGI application (PEP 3333) that runs in threads.

Both directions stream at the same time. The application starts when the head is there; the body
comes through a bounded buffer, and a full one stops reading from the client; each part of the
response goes to the loop, and the thread waits while the client does not read. When the client goes
away, ``read`` raises and the iterable is closed, so the application's work ends.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from portable_core.adapters.edge.forwarded import Client
from portable_core.adapters.edge.pool import Pool
from portable_core.adapters.edge.request import Rejected, Request
from portable_core.problems import PROBLEM_TYPE, describe_fault

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

#: Bytes of a body above which the client is not read, and below which it is read again.
_IN_HIGH, _IN_LOW = 256 * 1024, 64 * 1024

#: Bytes of a response that wait for the loop.
_OUT_HIGH = 256 * 1024

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class ClientGone(OSError):
    """The client closed the connection, or its body will not be complete."""


class Bridge:
    """Serves requests with a WSGI application. Made on the loop's thread."""

    def __init__(self, app: WSGIApplication, pool: Pool) -> None:
        self._app = app
        self._pool = pool
        self._loop = asyncio.get_running_loop()

    def begin(self, request: Request, path: bytes, query: bytes, client: Client) -> None:
        """Start the application for a request. Raises ``Rejected`` if all threads are busy."""
        environ = make_environ(request, path, query, client)
        exchange = _Exchange(self._app, request, self._loop, environ)
        request.on_gone = exchange.end_client
        request.data = exchange
        request.stream(exchange)
        if not self._pool.submit(exchange.run):
            raise Rejected(503, "too many requests are in progress; try again")


class _Exchange:
    """One request in a thread: ``wsgi.input``, ``start_response``, and the sink of the body."""

    def __init__(
        self,
        app: WSGIApplication,
        request: Request,
        loop: asyncio.AbstractEventLoop,
        environ: WSGIEnvironment,
    ) -> None:
        self._app = app
        self._request = request
        self._loop = loop
        self._environ = environ
        environ["wsgi.input"] = self
        self._changed = threading.Condition()
        self._in: deque[bytes] = deque()
        self._in_size = 0
        self._in_ended = self._in_paused = False
        self._in_error: str | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._out_scheduled = self._blocked = self._gone = False
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._head_sent = False

    # -- on the loop's thread: the sink --------------------------------------------------------

    def data(self, data: bytes) -> None:
        with self._changed:
            self._in.append(data)
            self._in_size += len(data)
            if self._in_size > _IN_HIGH and not self._in_paused:
                self._in_paused = True
                self._request.connection.pause()
            self._changed.notify_all()

    def end(self, error: str | None) -> None:
        with self._changed:
            self._in_ended, self._in_error = True, error
            self._changed.notify_all()

    def end_client(self) -> None:
        """Note that the client is gone."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        with self._changed:
            self._blocked = False
            self._changed.notify_all()

    # -- in the application's thread: wsgi.input -----------------------------------------------

    def read(self, size: int = -1) -> bytes:
        """Return at least one byte and at most ``size``, as soon as they are there.

        ``b""`` is the end of the body. Without a size, the whole rest is returned. Raises
        :class:`ClientGone`.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if size == 0:
            return b""
        with self._changed:
            while not self._in:
                if self._gone:
                    raise ClientGone("the client closed the connection")
                if self._in_ended:
                    if self._in_error:
                        raise ClientGone(self._in_error)
                    return b""
                self._changed.wait()
            part = self._take(size)
            resume = self._in_paused and self._in_size <= _IN_LOW
            if resume:
                self._in_paused = False
        if resume:
            self._call(self._request.connection.resume)
        return part

    def _take(self, size: int) -> bytes:
        parts: list[bytes] = []
        while self._in and size:
            first = self._in.popleft()
            if len(first) > size:
                self._in.appendleft(first[size:])
                first = first[:size]
            parts.append(first)
            size -= len(first)
        part = parts[0] if len(parts) == 1 else b"".join(parts)
        self._in_size -= len(part)
        return part

    def readline(self, size: int = -1) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and (size < 0 or len(line) < size):
            part = self.read(1)
            if not part:
                break
            line += part
        return bytes(line)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    # -- in the application's thread: the response ---------------------------------------------

    def run(self) -> None:
        """Run the application and send its response."""
        iterable: Iterable[bytes] = ()
        try:
            if self._gone:
                return
            iterable = self._app(self._environ, self._start_response)
            if isinstance(iterable, list | tuple):
                self._call(self._send_whole, b"".join(iterable))
                return
            for chunk in iterable:
                if chunk:
                    self._send(chunk)
                elif self._gone:  # an application that waits yields nothing now and then
                    raise ClientGone("the client closed the connection")
            self._call(self._finish)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001  # answered and logged
            problem = describe_fault(error)
            self._call(self._fail, problem.body)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        if exc_info is not None and exc_info[1] is not None and self._head_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        encoded = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        self._head = int(status[:3]), encoded
        return self._send

    def _send(self, chunk: bytes) -> None:
        with self._changed:
            while (self._blocked or self._out_size > _OUT_HIGH) and not self._gone:
                self._changed.wait()
            if self._gone:
                raise ClientGone("the client closed the connection")
            self._out.append(chunk)
            self._out_size += len(chunk)
            schedule, self._out_scheduled = not self._out_scheduled, True
        if schedule:
            self._call(self._flush)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:  # the loop is closed
            raise ClientGone("the server has stopped") from error

    # -- on the loop's thread: the response ----------------------------------------------------

    def _flush(self) -> None:
        with self._changed:
            out, self._out, self._out_size = self._out, [], 0
            self._out_scheduled = False
            self._changed.notify_all()
        if self._gone:
            return
        if not self._head_sent and self._head is not None:
            self._head_sent = True
            self._request.start(*self._head)
        if out:
            self._request.write(b"".join(out))

    def _finish(self) -> None:
        self._flush()
        if not self._gone:
            self._request.finish()

    def _send_whole(self, body: bytes) -> None:
        if self._gone or self._head is None:
            return
        status, headers = self._head
        if self._request.method == b"HEAD" or status in (204, 304):
            self._request.start(status, headers)
            self._request.finish()
            return
        rest = [header for header in headers if header[0].lower() != b"content-length"]
        self._request.respond(status, rest, body)

    def _fail(self, document: bytes) -> None:
        if self._gone:
            return
        if self._head_sent:
            self._request.finish(cut=True)
        else:
            self._request.respond(500, [(b"Content-Type", PROBLEM_TYPE.encode())], document)


def make_environ(request: Request, path: bytes, query: bytes, client: Client) -> WSGIEnvironment:
    """Return the environment of a request, without its input.

    Headers with an underscore in their name are left out: they would pass for those with a hyphen.
    """
    _, here = request.connection.describe_ends()
    target = request.target.decode("latin-1")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "RAW_URI": target,
        "REQUEST_URI": target,
        "SERVER_PROTOCOL": "HTTP/1.0" if request.http10 else "HTTP/1.1",
        "REMOTE_ADDR": client.address,
        "SERVER_NAME": here[0],
        "SERVER_PORT": str(here[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": client.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for name, value in request.headers:
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
    return environ
