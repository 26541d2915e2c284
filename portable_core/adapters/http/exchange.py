"""One HTTP request and its response, both streamed at the same time, for synchronous callers.

aiohttp reads a response while the request is still being written. Most other clients do not, and
deadlock once both are larger than the sockets' buffers. Memory does not grow with either, and a
slow caller slows the peer down.

Every exchange has its own connection, so that it never reads the remainder of another one. Proxies
and credentials of the environment (``HTTPS_PROXY``, ``~/.netrc``) are not used, cookies are not
kept, redirects are not followed, and compressed responses are not decompressed.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp

from portable_core.adapters.http.async_bridge import CHUNK_BYTES, BodyThread, LoopThread
from portable_core.adapters.http.connection import ExchangeConnector, translate_error
from portable_core.errors import SlaveError, SlaveUnreachable
from portable_core.ports import KeepWaiting, wait_on

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

logger = logging.getLogger(__name__)

# aiohttp pauses reading at twice this size. When a TLS connection ends during the pause, asyncio
# passes on all of its buffer, up to 512 KiB, directly followed by the end, and aiohttp loses the
# bytes beyond its own buffer. So the buffer must always have room for 512 KiB.
_READ_BYTES = 2**20
_WAITING_CHUNKS = 4  # of a response, between the event loop and the caller
_LEAVE_S = 0.4  # the wait for the connection to end, and again for a body that blocks
_KEEP_WAITING_S = 0.5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    - ``idle_s``: without a byte in either direction, and for the response's headers once the
      request was sent. Time spent waiting for the caller or for the request's body does not count.
    - ``connect_s``: for the connection.
    - ``body_s``: between two chunks of the request's body.
    - ``total_s``: for the whole exchange.
    """

    idle_s: float
    connect_s: float = 10.0
    body_s: float = 60.0
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request. ``peer`` is the other node's label in messages; a body is sent chunked."""

    peer: str
    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str] | None = None
    body: Iterable[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a response."""

    status: int
    headers: CIMultiDictProxy[str]


class Exchange:
    """A context manager that sends a request and reads the response. For one use.

    Entering waits for the response's headers and sets ``status`` and ``headers``; ``chunks()``
    yields the body. While waiting, ``keep_waiting`` is called; an exception of it ends the exchange
    and is raised to the caller.

    Leaving ends both directions at once, with a reset of the connection unless both are complete.
    It waits less than half a second for the request's body to be closed; a body whose ``next()``
    blocks is closed later, by its own thread.

    Raises ``SlaveUnreachable``, ``AnswerInvalid`` for a response that is not HTTP, and what the
    request's body raises.
    """

    def __init__(
        self,
        loops: LoopThread,
        request: Request,
        limits: Timeouts,
        tls: ssl.SSLContext | None = None,
        keep_waiting: KeepWaiting = wait_on,
    ) -> None:
        self._loop = loops.get()
        self._keep_waiting = keep_waiting
        self._request = request
        self._limits = limits
        self._tls = tls
        self._body = (
            None if request.body is None else BodyThread(request.body, self._loop, self._fail)
        )
        self._items: queue.SimpleQueue[Head | bytes | BaseException | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_WAITING_CHUNKS)
        self._failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._link: ExchangeConnector | None = None
        self._content: aiohttp.StreamReader | None = None
        self._reading = False  # waiting for bytes from the peer, not for the caller
        self._left = False
        self.deadline = (
            float("inf") if limits.total_s is None else time.monotonic() + limits.total_s
        )
        self.status = 0
        self.headers: CIMultiDictProxy[str]

    # -- the caller's thread -------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._running = asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        try:
            head = self._next()
            if not isinstance(head, Head):
                raise head if isinstance(head, BaseException) else self._ended()
        except BaseException:
            self._leave()
            raise
        self.status, self.headers = head.status, head.headers
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def chunks(self) -> Iterator[bytes]:
        """Yield the response's body, including all that was received before an error."""
        while not self._left:
            item = self._next()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, bytes):
                self._call(self._room.release)
                yield item
        raise self._ended()

    def read(self, limit: int, seconds: float) -> bytes:
        """Return the response's body, read within ``seconds``.

        A body longer than ``limit`` is returned in part, but with more than ``limit`` bytes.
        """
        self.deadline = min(self.deadline, time.monotonic() + seconds)
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                break
        return bytes(body)

    def _next(self) -> Head | bytes | BaseException | None:
        while True:
            closed = self._loop.is_closed()
            try:
                return self._items.get(timeout=_KEEP_WAITING_S)
            except queue.Empty:
                # Closing the client ends its exchanges, unless one begins at that moment.
                if closed:
                    return self._ended()
            self._keep_waiting()

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        self._call(self._fail, self._ended())
        wait([self._running], _LEAVE_S)
        self._items.put(self._ended())  # for another thread that may be waiting in chunks()
        if self._body is not None and not self._body.finish(_LEAVE_S):
            logger.warning(
                "%s: the request's body blocks; its thread is left running", self._request.peer
            )

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        # The loop is closed if the client was; then all of its exchanges have ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _ended(self) -> SlaveUnreachable:
        return SlaveUnreachable(f"{self._request.peer}: the exchange was ended by this side")

    # -- the event loop ------------------------------------------------------------------------

    async def _run(self) -> None:
        peer, self._task = self._request.peer, asyncio.current_task()
        watch = asyncio.create_task(self._watch())
        end: BaseException | None = None
        try:
            if self._failure is None:
                await self._talk()
            end = self._failure
        except asyncio.CancelledError:
            end = self._failure or self._ended()
        except Exception as error:  # noqa: BLE001  # the caller waits for an end of any kind
            end = self._failure or translate_error(error, peer, self._limits.connect_s)
        finally:
            watch.cancel()
            if self._body is not None:
                self._body.stop()
            self._items.put(end)

    async def _talk(self) -> None:
        request, limits = self._request, self._limits
        link = self._link = ExchangeConnector(self._tls, self._stop_sending)
        async with aiohttp.ClientSession(
            connector=link,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_s),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            trust_env=False,
        ) as session:
            response: aiohttp.ClientResponse | None = None
            whole = False
            try:
                response = await session.request(
                    request.method,
                    request.url,
                    params=request.query,
                    headers=request.headers,
                    data=self._body,
                    allow_redirects=False,
                )
                self._items.put(Head(response.status, response.headers))
                await self._receive(response.content)
                whole = self._body is None or self._body.sent
            finally:
                link.end(reset=not whole)
                if response is not None:
                    response.close()

    async def _receive(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        try:
            while chunk := await self._wait_for_peer(content.read(CHUNK_BYTES)):
                await self._hand_over(chunk)
        except (aiohttp.ClientError, OSError):
            # The reader raises at once, even if it has bytes that came before the error.
            content.set_exception(None)  # type: ignore[arg-type]  # clears it
            while chunk := content.read_nowait(CHUNK_BYTES):
                await self._hand_over(chunk)
            raise

    async def _wait_for_peer(self, chunk: Awaitable[bytes]) -> bytes:
        self._reading = True
        try:
            return await chunk
        finally:
            self._reading = False

    async def _hand_over(self, chunk: bytes) -> None:
        await self._room.acquire()
        self._items.put(chunk)

    def _stop_sending(self) -> None:
        if self._body is not None:
            self._body.stop()

    def _fail(self, error: BaseException) -> None:
        """End the exchange with ``error``, unless another error is ending it."""
        if self._failure is None:
            self._failure = error
            if self._task is not None:
                self._task.cancel()

    async def _watch(self) -> None:
        """Check for progress several times in ``idle_s``, and end the exchange on a timeout."""
        limits, peer = self._limits, self._request.peer
        pause = min(max(limits.idle_s / 10, 0.01), 0.25)
        silent_s = unfed_s = 0.0
        before: tuple[int, ...] = ()
        broken = 0
        now = time.monotonic()
        while True:
            last = now
            await asyncio.sleep(pause)
            now = time.monotonic()
            # A process that was suspended has yet to read what came during that time.
            step_s = min(now - last, 2 * pause)
            body, content, state = self._body, self._content, self._progress()
            unfed_s = unfed_s + step_s if body is not None and body.waiting else 0.0
            waits_for_caller = content is not None and not self._reading
            if state != before or not state or waits_for_caller or unfed_s:
                silent_s, before = 0.0, state
            else:
                silent_s += step_s
            broken = broken + 1 if self._is_broken() else 0
            if now >= self.deadline:
                self._fail(SlaveUnreachable(f"{peer}: timeout: not complete in time"))
            elif silent_s >= limits.idle_s:
                what = "no response" if content is None else "no bytes"
                self._fail(SlaveUnreachable(f"{peer}: timeout: {what} for {limits.idle_s:g} s"))
            elif unfed_s >= limits.body_s:
                self._fail(SlaveError(f"{peer}: timeout: no data to send for {limits.body_s:g} s"))
            elif broken > 1:
                self._fail(SlaveUnreachable(f"{peer}: the response stopped being HTTP"))

    def _progress(self) -> tuple[int, ...]:
        """Return numbers that change whenever bytes move; an empty tuple without a connection."""
        if self._link is None or self._link.transport is None:
            return ()
        received = 0 if self._content is None else self._content.total_bytes
        passed = 0 if self._body is None else self._body.passed
        return received, passed, *self._link.count_unsent()

    def _is_broken(self) -> bool:
        """Return whether the parser has failed, which aiohttp does not report to readers."""
        protocol = None if self._link is None else self._link.protocol
        return (
            self._reading
            and protocol is not None
            and protocol.exception() is not None
            and self._content is not None
            and self._content.exception() is None
        )
