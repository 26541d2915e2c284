"""The container's server: granian, one worker process with threads.

One process, because a folder of SQLite files has one writer; threads, because a webhook spends its
time waiting for the disk. More cores means more slaves.
"""

from __future__ import annotations

import errno
import gc
import ipaddress
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from portable_core.errors import SettingsError
from portable_core.settings import Role, Settings

if TYPE_CHECKING:
    from flask import Flask

    from portable_core.node import Node

#: A platform that stops a container gives it ten seconds (Cloud Run: SIGTERM, 10 s, SIGKILL).
STOP_S = 9

#: Connections that are open at the same time; more wait to be accepted. Idle and half-open ones
#: count, and cost a few KiB each.
_CONNECTIONS = 4096

#: How long a port may still be held by a process that is ending.
_PORT_S = 5.0

_MODULE = "portable_core.adapters.server"


def make_slave() -> Flask:
    """The slave's application, made in the worker's main thread."""
    return _make("slave")


def make_master() -> Flask:
    """The master's application, likewise."""
    return _make("master")


def _make(role: Role) -> Flask:
    from portable_core.adapters.slow_senders import SlowSenders
    from portable_core.adapters.stopping import watch_signals
    from portable_core.adapters.wiring import build_app_or_exit

    nodes: list[Node] = []

    def stop() -> None:
        for node in nodes:
            node.stop()

    def close() -> None:
        for node in nodes:
            node.close()

    app = build_app_or_exit(role, nodes.append, serving=True)
    watch_signals(stop, close)
    SlowSenders(Settings.from_env(role, os.environ).threads).watch()
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it for every webhook
    return app


def serve(role: Role, settings: Settings, host: str) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. Raises ``SettingsError`` for an
    address that it cannot listen at."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings

    from portable_core.adapters.logs import ROOT_ONLY, configure_logs
    from portable_core.adapters.slow_senders import READERS_PER_THREAD

    _check_address(host, settings.port)
    configure_logs(os.environ)
    logging.getLogger("_granian").addFilter(_is_no_advice)
    Granian(
        f"{_MODULE}:make_{role}",
        factory=True,
        address=host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=settings.threads * READERS_PER_THREAD,
        backpressure=_CONNECTIONS,
        http=HTTPModes.http1,  # of HTTP/2 each half-open stream would hold a thread
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        workers_kill_timeout=STOP_S,
        respawn_failed_workers=False,
        log_access=False,
        log_dictconfig=ROOT_ONLY,
    ).serve()


def _check_address(host: str, port: int) -> None:
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
