"""Ends the connections of senders that keep a server's threads waiting.

A server of threads (granian's WSGI, gunicorn's gthread) lends a thread to a request until its body
is there, and neither limits how long that takes; gunicorn does not even for the headers. A few
hundred connections that send a byte now and then would stop such a node for good.

Nobody is in a hurry while there are threads. So only when many connections owe the rest of a
request are they ended, those first that have waited longest. Which those are the kernel tells
(Linux, ``TCP_INFO``); where it does not, nothing is done.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

logger = logging.getLogger(__name__)

#: A server has so many threads for each one that ``THREADS`` asks for. The others are made when
#: senders are slow, so that those take nothing away from anybody.
READERS_PER_THREAD = 8

#: A request that gets on by less than so many bytes between two looks does not get on.
_SLOW_BYTES = 16 * 1024

_LOOK_S = 1.0
#: How long a connection may have had nothing from the server, in milliseconds, before it counts.
_PATIENCE_MS = 2000

_FDS = "/proc/self/fd"
_TCP_INFO = getattr(socket, "TCP_INFO", None)
# struct tcp_info of linux/tcp.h: eight bytes, 24 words of 32 bits, then words of 64 bits
_LAST_DATA_SENT = 8 + 9 * 4
_LAST_DATA_RECEIVED = 8 + 11 * 4
_BYTES_RECEIVED = 128
_INFO_BYTES = 136


@dataclass(frozen=True, slots=True)
class _Look:
    """What a connection looked like. Times in ms ago; ``received`` counts bytes since its start."""

    peer: object
    sent_ago: int
    received_ago: int
    received: int

    def owes(self, before: _Look | None) -> bool:
        """Whether the rest of a request has been slow to come, for as long as patience lasts."""
        return (
            before is not None
            and before.peer == self.peer
            and self.sent_ago >= _PATIENCE_MS
            and self.received_ago <= self.sent_ago
            and self.received - before.received < _SLOW_BYTES
        )


class SlowSenders:
    """Watches the connections that this process has accepted."""

    def __init__(self, threads: int) -> None:
        """``threads`` is the setting ``THREADS``."""
        self._crowd = threads * READERS_PER_THREAD // 2
        self._before: dict[int, _Look] = {}

    def watch(self) -> None:
        """Watch from now on, in a thread of its own; in a server that forks, after the fork."""
        if _TCP_INFO is not None and os.path.isdir(_FDS):
            threading.Thread(target=self._run, name="slow-senders", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with contextlib.suppress(OSError):  # no descriptor left to look with: look again
                self.look()

    def look(self) -> int:
        """End the connections that are slow if they are a crowd; how many that were."""
        if len(os.listdir(_FDS)) <= self._crowd:
            self._before = {}
            return 0
        looks: dict[int, _Look] = {}
        slow: list[tuple[int, socket.socket]] = []
        with contextlib.ExitStack() as stack:
            for fd, connection in _open_accepted(stack):
                look = _look_at(connection)
                if look is None:
                    continue
                looks[fd] = look
                if look.owes(self._before.get(fd)):
                    slow.append((look.sent_ago, connection))
            self._before = looks
            slow.sort(key=itemgetter(0))
            ended = slow[self._crowd :]
            for _, connection in ended:
                # The server reads the end of the request, answers or not, and closes.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        if ended:
            logger.warning("%d requests that did not get on were ended", len(ended))
        return len(ended)


def _open_accepted(stack: contextlib.ExitStack) -> Iterator[tuple[int, socket.socket]]:
    """The sockets whose local port is one that this process listens on, until the stack closes."""
    ports: set[int] = set()
    connected: list[tuple[int, socket.socket]] = []
    for name in os.listdir(_FDS):
        opened = _open(int(name))
        if opened is None:
            continue
        stack.enter_context(opened)
        if opened.family not in (socket.AF_INET, socket.AF_INET6):
            continue
        if opened.type != socket.SOCK_STREAM:
            continue
        if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            ports.add(opened.getsockname()[1])
        else:
            connected.append((int(name), opened))
    for fd, connection in connected:
        with contextlib.suppress(OSError):
            if connection.getsockname()[1] in ports:
                yield fd, connection


def _open(fd: int) -> socket.socket | None:
    """A socket of its own for the descriptor, which may mean something else a moment later."""
    try:
        duplicate = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None


def _look_at(connection: socket.socket) -> _Look | None:
    try:
        assert _TCP_INFO is not None  # noqa: S101  # nothing is watched without it
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        peer = connection.getpeername()
    except OSError:
        return None
    if len(info) < _INFO_BYTES:  # an old kernel, or a sandbox that only looks like one
        return None
    (sent_ago,) = struct.unpack_from("=I", info, _LAST_DATA_SENT)
    (received_ago,) = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)
    (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
    return _Look(peer, sent_ago, received_ago, received)
