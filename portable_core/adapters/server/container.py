"""The container's server: granian, one worker process with threads.

One process, because a folder of SQLite files has one writer; threads, because a webhook spends its
time waiting for the disk. More cores means more slaves.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import time

from portable_core.errors import SettingsError

#: A platform that stops a container gives it ten seconds (Cloud Run: SIGTERM, 10 s, SIGKILL).
STOP_S = 9

#: Connections that are open at the same time; more wait to be accepted. Idle and half-open ones
#: count, and cost a few KiB each.
_CONNECTIONS = 4096

#: How long a port may still be held by a process that is ending.
_PORT_S = 5.0

#: The server's lines go to the root logger's handler. (For :func:`logging.config.dictConfig`.)
ROOT_ONLY: dict[str, dict[str, object]] = {
    "loggers": {"_granian": {"handlers": [], "propagate": True}}
}


def serve(target: str, host: str, port: int, threads: int) -> None:
    """Serve the WSGI application that ``target`` (``module:factory``) makes in the worker process,
    until SIGTERM or SIGINT; then drain and return."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings

    from portable_core.adapters.server.slow_senders import READERS_PER_THREAD

    logging.getLogger("_granian").addFilter(_is_no_advice)
    Granian(
        target,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads * READERS_PER_THREAD,
        backpressure=_CONNECTIONS,
        http=HTTPModes.http1,  # of HTTP/2 each half-open stream would hold a thread
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        workers_kill_timeout=STOP_S,
        respawn_failed_workers=False,
        log_access=False,
        log_dictconfig=ROOT_ONLY,
    ).serve()


def check_address(host: str, port: int) -> None:
    """granian shares a port with whoever shares it too, so that each got some of the webhooks."""
    try:
        family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
    except ValueError as error:
        raise SettingsError(
            f"--host: must be an IP address such as 127.0.0.1, not {host!r}"
        ) from error
    deadline = time.monotonic() + _PORT_S
    while True:
        try:
            with socket.socket(family) as probe:
                if os.name == "posix":  # past connections of an earlier process do not count
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise SettingsError(
                f"PORT: cannot listen at {host}, port {port}: {error.strerror}"
            ) from error


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Leave out what granian says at each start of more threads than it would take."""
    return "Configuration allows spawning" not in record.getMessage()
