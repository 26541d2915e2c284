"""Serve one node on an event loop until a signal, then drain and close it."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import uvloop

from portable_core.adapters.edge.bridge import Bridge
from portable_core.adapters.edge.edge import Edge
from portable_core.adapters.edge.limits import EdgeLimits, fit_connections
from portable_core.adapters.edge.pool import Pool
from portable_core.adapters.edge.webhooks import WebhookHandler
from portable_core.errors import SettingsError
from portable_core.node import Node
from portable_core.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

#: Time for the requests under way after a signal, in seconds. Cloud Run kills ten seconds after it;
#: the rest is for closing the node.
DRAIN_S = 6.0

#: When Python looks for garbage in cycles, by generation (``gc.set_threshold``). A webhook makes
#: many objects and no cycles, so Python's own 700 of the first generation is too often.
_COLLECT_AFTER = (50_000, 20, 100)

#: For the responses to webhooks that closing the node has committed.
_ANSWER_S = 0.1

#: How long to wait for a port that an ending process still holds, in seconds.
_PORT_S = 5.0


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets for a name or an address; both families if ``host`` is empty.

    Raises ``SettingsError`` if the address is invalid or in use: with another process on the same
    port, each would get some of the webhooks.
    """
    deadline = time.monotonic() + _PORT_S
    while True:
        try:
            return _open_sockets(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            place = f"{host or 'all addresses'}, port {port}"
            name, reason = "PORT", os.strerror(error.errno or 0)
            if isinstance(error, socket.gaierror):
                name, reason = "HOST", str(error.strerror)
            raise SettingsError(f"{name}: cannot listen on {place}: {reason}") from error


def find_host(host: str) -> None:
    """Raise ``SettingsError`` if a name or an address cannot be resolved; "" stands for all."""
    try:
        if host:
            socket.getaddrinfo(host, None, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"HOST: cannot find {host}: {error.strerror}") from error


def _open_sockets(host: str, port: int) -> list[socket.socket]:
    if not host:
        if socket.has_dualstack_ipv6():
            return [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)]
        return [socket.create_server(("", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(found):
            sockets.append(socket.create_server(address[:2], family=family))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def serve(
    node: Node,
    app: WSGIApplication,
    sockets: Sequence[socket.socket],
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; return once the requests under way are answered.

    ``ready`` is called on the loop's thread once connections are accepted.
    """
    gc.collect()
    gc.freeze()  # these objects stay: the collector need not scan them again
    gc.set_threshold(*_COLLECT_AFTER)
    uvloop.run(_serve(node, app, sockets, ready))


def make_limits(settings: Settings) -> EdgeLimits:
    """Return the limits of a process with these settings."""
    return EdgeLimits(
        idle_s=settings.idle_timeout_ms / 1000,
        connections=fit_connections(settings.max_connections),
        paused_bytes=settings.buffer_bytes // 4,
        held_bytes=settings.buffer_bytes,
        spooled_bytes=settings.buffer_bytes * 8,
    )


async def _serve(
    node: Node,
    app: WSGIApplication,
    sockets: Sequence[socket.socket],
    ready: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    settings = node.settings
    pool = Pool(settings.threads)
    handler = WebhookHandler(node, Bridge(app, pool), pool, settings.trusted_proxies)
    edge = Edge(handler, make_limits(settings), settings.max_body_bytes)
    stopped = asyncio.Event()

    def stop() -> None:
        node.stop()
        edge.stop()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await edge.listen(sockets)
    ready()
    await stopped.wait()
    closing = asyncio.create_task(edge.close(DRAIN_S))
    await closing if not edge.connections else await asyncio.wait([closing], timeout=DRAIN_S)
    if edge.connections:
        logger.warning("requests are still in progress %g s after the stop", DRAIN_S)
    await loop.run_in_executor(None, node.close)
    await asyncio.sleep(_ANSWER_S if edge.connections else 0)
