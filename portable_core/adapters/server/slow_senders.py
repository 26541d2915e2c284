"""Close the connections of senders that keep a server's threads waiting.

A threaded server (gunicorn's gthread) assigns a thread to a request until its body
is complete. Neither server limits that time, and gunicorn not even the time for the headers. A few
hundred connections that send a byte now and then would block such a node without limit.

While threads are free, slow senders do no harm. Only when many connections owe the rest of a
request are they closed, those that have waited longest first. The kernel knows which ones (Linux,
``TCP_INFO``); without ``TCP_INFO`` nothing is done.
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

#: Threads of a server for each one of ``THREADS``. The additional ones start when senders are slow,
#: so that slow senders do not block others.
READERS_PER_THREAD = 8

#: A connection that sends less than this between two checks is slow.
_SLOW_BYTES = 16 * 1024

_LOOK_S = 1.0
#: Time without data from the server after which a connection counts, in milliseconds.
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
    """The state of a connection: ages in ms; ``received`` in bytes since its start."""

    peer: object
    sent_ago: int
    received_ago: int
    received: int

    def owes(self, before: _Look | None) -> bool:
        """Return whether the rest of a request has been slow for at least ``_PATIENCE_MS``."""
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
        """Start to watch, in a thread. In a server that forks, call this after the fork."""
        if _TCP_INFO is not None and os.path.isdir(_FDS):
            threading.Thread(target=self._run, name="slow-senders", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with contextlib.suppress(OSError):  # no free descriptor: check again later
                self.look()

    def look(self) -> int:
        """Close slow connections if there are too many; return how many were closed."""
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
                # The server reads the end of the request and closes the connection.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        if ended:
            logger.warning("%d slow requests: their connections were closed", len(ended))
        return len(ended)


def _open_accepted(stack: contextlib.ExitStack) -> Iterator[tuple[int, socket.socket]]:
    """Yield the sockets whose local port this process listens on; valid until the stack closes."""
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
    """Return a duplicate socket of the descriptor, which the process may reuse at any time."""
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
        assert _TCP_INFO is not None  # noqa: S101  # ``watch`` does nothing without it
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        peer = connection.getpeername()
    except OSError:
        return None
    if len(info) < _INFO_BYTES:  # an old kernel, or a sandbox
        return None
    (sent_ago,) = struct.unpack_from("=I", info, _LAST_DATA_SENT)
    (received_ago,) = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)
    (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
    return _Look(peer, sent_ago, received_ago, received)
