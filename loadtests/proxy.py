"""A TCP proxy that breaks connections on purpose. One before each node, one on each way to a slave.

It knows nothing of HTTP. It runs in an event loop of its own, in a thread of its own; its methods
may be called from any thread and count from the next byte on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, replace

_CHUNK = 65536

#: Closing a socket with this option sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the proxy does to connections; nothing by default.

    ``refuse``: new ones are reset as soon as they are there. ``cut_after``: a connection is reset
    after so many bytes from the server; each begins to count when it is opened, those that exist
    when this is set. ``bytes_per_s``: how fast each direction is. ``silent``: half-open: bytes are
    taken from both sides and go nowhere, nobody is told.
    """

    refuse: bool = False
    cut_after: int | None = None
    bytes_per_s: int | None = None
    silent: bool = False


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.answered = 0

    def reset(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


class FaultProxy:
    """Listens on a free loopback port from :meth:`start` to :meth:`close`."""

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.connections = 0
        self.resets = 0
        #: Pieces of the traffic that were slowed down or swallowed.
        self.held = 0
        self._target = target_port
        self._behaviour = Behaviour()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.port = future.result(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, **changes: object) -> None:
        """Change some of the :class:`Behaviour`; ``cut_after`` counts from now on."""
        for connection in list(self._open):
            connection.answered = 0
        self._behaviour = replace(self._behaviour, **changes)  # type: ignore[arg-type]  # by name

    def heal(self) -> None:
        """Behave well again. What was half-open is reset: its bytes are lost for good."""
        was_silent = self._behaviour.silent
        self._behaviour = Behaviour()
        if was_silent:
            self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection that is open now."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- in the loop's thread ----------------------------------------------------------------------

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _shut(self) -> None:
        self._server.close()
        self._reset_all()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for connection in list(self._open):
            self.resets += 1
            connection.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None  # a coroutine of the server's runs as a task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._behaviour.refuse:
            self.resets += 1
            _reset(writer)
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)  # as a node that is not there would do
            return
        connection = _Connection(writer, server)
        self._open.add(connection)
        try:
            await asyncio.gather(
                self._carry(connection, reader, server, answers=False),
                self._carry(connection, answers, writer, answers=True),
            )
        except OSError:
            connection.reset()
        finally:
            self._open.discard(connection)
            for each in (writer, server):
                each.close()

    async def _carry(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        while True:
            speed = self._behaviour.bytes_per_s
            data = await reader.read(_CHUNK if speed is None else max(1, speed // 20))
            if not data:
                break
            behaviour = self._behaviour
            if behaviour.silent:
                self.held += 1
                continue
            if answers and behaviour.cut_after is not None:
                data = data[: max(0, behaviour.cut_after - connection.answered)]
            connection.answered += len(data) if answers else 0
            writer.write(data)
            await writer.drain()
            if (
                answers
                and behaviour.cut_after is not None
                and connection.answered >= behaviour.cut_after
            ):
                self.resets += 1
                # Written bytes have to leave before the reset overtakes them.
                await asyncio.sleep(0.005)
                connection.reset()
                return
            if behaviour.bytes_per_s is not None:
                self.held += 1
                await asyncio.sleep(len(data) / behaviour.bytes_per_s)
        if not self._behaviour.silent:
            with suppress(OSError):
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
