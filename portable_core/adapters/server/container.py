"""The container's server: granian, one worker process with threads.

One process, because a folder of SQLite files has one writer; threads, because a webhook mostly
waits for the disk. To use more cores, run more slaves.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import time

from portable_core.errors import SettingsError

#: Seconds for a stop. Cloud Run sends SIGTERM, waits 10 s, then sends SIGKILL.
STOP_S = 9

#: Most open connections; further ones wait to be accepted. Idle and half-open connections count,
#: and cost a few KiB each.
_CONNECTIONS = 4096

#: How long to wait for a port that an ending process still holds, in seconds.
_PORT_S = 5.0

#: Sends the server's lines to the root logger. (For :func:`logging.config.dictConfig`.)
ROOT_ONLY: dict[str, dict[str, object]] = {
    "loggers": {"_granian": {"handlers": [], "propagate": True}}
}


def serve(target: str, host: str, port: int, threads: int) -> None:
    """Serve the WSGI application that ``target`` (``module:factory``) makes in the worker process.

    Return after SIGTERM or SIGINT, once the requests under way are answered.
    """
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings

    from portable_core.adapters.server.slow_senders import READERS_PER_THREAD

    logging.getLogger("_granian").addFilter(_is_not_advice)
    Granian(
        target,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads * READERS_PER_THREAD,
        backpressure=_CONNECTIONS,
        http=HTTPModes.http1,  # each half-open stream of HTTP/2 would hold a thread
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        workers_kill_timeout=STOP_S,
        respawn_failed_workers=False,
        log_access=False,
        log_dictconfig=ROOT_ONLY,
    ).serve()


def check_address(host: str, port: int) -> None:
    """Raise ``SettingsError`` if the address is invalid or in use.

    granian would share a port with another process, and each would get some of the webhooks.
    """
    family = parse_host(host)
    deadline = time.monotonic() + _PORT_S
    while True:
        try:
            with socket.socket(family) as probe:
                if os.name == "posix":  # ignore old connections of an earlier process
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise SettingsError(
                f"PORT: cannot listen on {host}, port {port}: {error.strerror}"
            ) from error


def parse_host(host: str) -> socket.AddressFamily:
    """Return the family of an IP address. Raise ``SettingsError``."""
    try:
        return socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
    except ValueError as error:
        raise SettingsError(
            f"--host: must be an IP address, such as 127.0.0.1 (got {host!r})"
        ) from error


def _is_not_advice(record: logging.LogRecord) -> bool:
    """Drop granian's advice against more threads than it suggests, logged at each start."""
    return "Configuration allows spawning" not in record.getMessage()
