"""Two threads that let synchronous code use an event loop: its own, and one per request body.

Both are daemons, so that neither a network nor a body that blocks keeps a process from exiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self

from portable_core.errors import SlaveError

logger = logging.getLogger(__name__)

#: The most bytes of one chunk, in either direction.
CHUNK_BYTES = 65_536

_READY_BYTES = 2 * CHUNK_BYTES  # read from a body ahead of the event loop
_STOP_S = 2.0


class LoopThread:
    """An event loop in a thread, one per process that uses this object."""

    def __init__(self) -> None:
        # By process: a fork copies the object but not its thread. The parent's loop is kept here
        # unused; closing it in the child would remove its descriptors from the epoll set that
        # both processes share.
        self._loops: dict[int, _RunningLoop] = {}

    def get(self) -> asyncio.AbstractEventLoop:
        """Return this process's loop; the first call starts it. Raises ``SlaveError``."""
        running = self._loops.setdefault(os.getpid(), _RunningLoop())
        try:
            return running.get()
        except SlaveError:
            self._loops.pop(os.getpid(), None)
            raise

    def close(self) -> None:
        """Cancel all tasks and end the thread. Idempotent; :meth:`get` starts a new one."""
        running = self._loops.pop(os.getpid(), None)
        if running is not None:
            running.stop()


class _RunningLoop:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="http-loop", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise SlaveError(f"the thread for HTTP cannot be started: {error}") from error
                self._thread = thread
        self._ready.wait()
        if self._loop is None:
            raise SlaveError("the event loop for HTTP cannot be started; see the log")
        return self._loop

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError:
            logger.exception("the event loop for HTTP cannot be started")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        # Leaving asyncio.run cancels all other tasks and waits for them.
        await self._stop.wait()

    def stop(self) -> None:
        with self._lock:
            if self._thread is None:
                return
            self._ready.wait()
            if self._loop is not None and self._stop is not None:
                with suppress(RuntimeError):  # closed already
                    self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_STOP_S)


class BodyThread:
    """A blocking iterable of bytes as an asynchronous one, in chunks of up to 64 KiB.

    A thread of its own reads the iterable, at most 128 KiB and one item ahead, and always calls its
    iterator's ``close()``. If the iterable raises, ``on_error`` gets the exception, on the event
    loop, and the iteration waits to be cancelled: a request that ended there would look complete.
    """

    def __init__(
        self,
        source: Iterable[bytes],
        loop: asyncio.AbstractEventLoop,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._loop = loop
        self._on_error = on_error
        self._thread = threading.Thread(target=self._run, name="http-body", daemon=True)
        self._changed = threading.Condition()
        # The following attributes are changed only under the lock of that condition.
        self._ready = bytearray()
        self._started = False
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        #: Number of bytes passed to the event loop.
        self.passed = 0
        #: Whether the event loop is waiting for the next chunk.
        self.waiting = False
        #: Whether the last chunk was passed to the event loop.
        self.sent = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            with self._changed:
                if not self._started and not self._stopped:
                    self._started = True
                    self._thread.start()
                if self._stopped:
                    break
                if self._ready:
                    chunk = bytes(self._ready[:CHUNK_BYTES])
                    del self._ready[:CHUNK_BYTES]
                    self.passed += len(chunk)
                    self._changed.notify_all()
                    return chunk
                if self._ended:
                    break
                self._wake.clear()
                self.waiting = True
            await self._wake.wait()
        if self._error is not None:
            self._on_error(self._error)
        elif not self._stopped:
            self.sent = True
            raise StopAsyncIteration
        await self._loop.create_future()
        raise AssertionError("a future without a reference was set")

    def stop(self) -> None:
        """Make the thread close the iterable once its ``next()`` returns. Thread-safe."""
        with self._changed:
            self._stopped = True
            self.waiting = False
            self._changed.notify_all()

    def finish(self, timeout: float) -> bool:
        """Stop, and wait until the iterable is closed. Returns False on a timeout.

        After a timeout the thread is left running; it closes the iterable once ``next()`` returns.
        """
        self.stop()
        if self._started:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        # No thread has used the iterable.
        self._close(self._source)
        return True

    def _run(self) -> None:
        iterator: Iterator[bytes] | None = None
        error: BaseException | None = None
        try:
            iterator = iter(self._source)
            for chunk in iterator:
                if not self._offer(chunk):
                    break
        except BaseException as raised:  # noqa: BLE001  # raised again in the caller's thread
            error = raised
        finally:
            self._close(self._source if iterator is None else iterator)
            with self._changed:
                self._error = error
                self._ended = True
                self._feed()

    def _offer(self, chunk: bytes) -> bool:
        """Add a chunk and wait until there is room for another. Returns False once stopped."""
        with self._changed:
            self._ready += chunk
            self._feed()
            while len(self._ready) >= _READY_BYTES and not self._stopped:
                self._changed.wait()
            return not self._stopped

    def _feed(self) -> None:
        if self.waiting:
            self.waiting = False
            self._loop.call_soon_threadsafe(self._wake.set)

    @staticmethod
    def _close(source: object) -> None:
        close = getattr(source, "close", None)
        try:
            if close is not None:
                close()
        except Exception:
            logger.exception("closing the body of a request failed")
