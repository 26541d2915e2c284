"""One HTTP request and its answer, both under way at once, for callers that are plain threads.

aiohttp reads an answer while the request is still being written; most other clients do not, and
deadlock once both are larger than the sockets' buffers. Memory does not grow with either, and a
slow caller makes the peer wait.

Every exchange has its own connection, so that none can meet what another left behind. Proxies and
credentials of the environment (``HTTPS_PROXY``, ``~/.netrc``) are not used, cookies not kept,
redirects not followed, compressed answers not unpacked.
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

# aiohttp stops reading at twice this, and goes on below it. When a TLS connection ends meanwhile,
# asyncio passes on all that it still holds, up to 512 KiB, with the end right behind, and aiohttp
# loses what it cannot take at once: so there must always be room for that.
_READ_BYTES = 2**20
_WAITING_CHUNKS = 4  # of an answer, between the event loop and the caller
_LEAVE_S = 0.4  # what leaving may wait for the connection, and again for a stuck body
_KEEP_WAITING_S = 0.5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long what may take, in seconds.

    ``idle_s``: without a byte going either way, and for the answer's headers once the request was
    sent; the time for which the caller or the request's own body holds things up does not count.
    ``body_s``: the body's own silence. ``total_s``: everything together.
    """

    idle_s: float
    connect_s: float = 10.0
    body_s: float = 60.0
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. ``peer`` is what messages call the other side; a body is sent chunked."""

    peer: str
    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str] | None = None
    body: Iterable[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: CIMultiDictProxy[str]


class Exchange:
    """A context in which a request is sent and its answer read. Made for one use.

    Entering waits for the answer's headers; ``status``, ``headers`` and ``chunks()`` tell the rest.
    Meanwhile ``keep_waiting`` is called; what it raises ends the exchange and comes out here.
    Leaving ends both directions at once, by a reset of the connection if anything was still to
    come, and waits until the request's body is closed, for less than half a second: a body that is
    stuck inside its own ``next()`` is left to its thread, which closes it when that returns.

    Errors: ``SlaveUnreachable``; ``AnswerInvalid`` for what is not HTTP; whatever the body raised.
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
        self._reading = False  # waiting for the peer's next bytes, not for the caller
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
        """The answer's body as it comes, everything that was received before an error included."""
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
        """The answer's body, no more than about ``limit`` bytes of it, within ``seconds``.

        Longer than ``limit`` means that there was more.
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
                # Closing the client ends exchanges in order, unless one begins at that moment.
                if closed:
                    return self._ended()
            self._keep_waiting()

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        self._call(self._fail, self._ended())
        wait([self._running], _LEAVE_S)
        self._items.put(self._ended())  # for another thread that may still wait in chunks()
        if self._body is not None and not self._body.finish(_LEAVE_S):
            logger.warning("%s: the request's body is stuck; its thread stays", self._request.peer)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        # The loop is closed if the client was; then everything on it has ended already.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _ended(self) -> SlaveUnreachable:
        return SlaveUnreachable(f"{self._request.peer}: the exchange was ended from this side")

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
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller waits for it
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
            # The reader raises at once, whatever it still holds; that came before the error.
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
        """End the exchange with ``error``, unless it has ended or is ending for another reason."""
        if self._failure is None:
            self._failure = error
            if self._task is not None:
                self._task.cancel()

    async def _watch(self) -> None:
        """Look several times in ``idle_s`` whether anything moved, and give up when it is due."""
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
            # A process that was suspended has yet to see what came in the meantime.
            step_s = min(now - last, 2 * pause)
            body, content, state = self._body, self._content, self._progress()
            unfed_s = unfed_s + step_s if body is not None and body.hungry else 0.0
            waits_for_caller = content is not None and not self._reading
            if state != before or not state or waits_for_caller or unfed_s:
                silent_s, before = 0.0, state
            else:
                silent_s += step_s
            broken = broken + 1 if self._is_broken() else 0
            if now >= self.deadline:
                self._fail(SlaveUnreachable(f"{peer}: not done in time; given up"))
            elif silent_s >= limits.idle_s:
                doing = "answered nothing" if content is None else "went silent"
                self._fail(SlaveUnreachable(f"{peer}: {doing} for {limits.idle_s:g} s; given up"))
            elif unfed_s >= limits.body_s:
                self._fail(SlaveError(f"{peer}: this side had no data for {limits.body_s:g} s"))
            elif broken > 1:
                self._fail(SlaveUnreachable(f"{peer}: the answer stopped being HTTP"))

    def _progress(self) -> tuple[int, ...]:
        """Numbers that change whenever bytes move; empty while there is no connection."""
        if self._link is None or self._link.transport is None:
            return ()
        received = 0 if self._content is None else self._content.total_bytes
        taken = 0 if self._body is None else self._body.taken
        return received, taken, *self._link.count_unsent()

    def _is_broken(self) -> bool:
        """Whether the parser gave up on the answer's body, which aiohttp tells nobody who reads."""
        protocol = None if self._link is None else self._link.protocol
        return (
            self._reading
            and protocol is not None
            and protocol.exception() is not None
            and self._content is not None
            and self._content.exception() is None
        )
