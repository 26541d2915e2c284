"""Serve a node from a container: the applications that the server's worker process loads."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from portable_core.adapters.logs import configure_logs
from portable_core.adapters.server import container
from portable_core.settings import Role, Settings
from portable_core.wiring import build_app_or_exit, check_extras, read_settings_or_exit

if TYPE_CHECKING:
    from flask import Flask

    from portable_core.node import Node


def make_slave() -> Flask:
    """Return the slave's application; call this in the worker's main thread."""
    return _make("slave")


def make_master() -> Flask:
    """Return the master's application; call this in the worker's main thread."""
    return _make("master")


def _make(role: Role) -> Flask:
    from portable_core.adapters.server.slow_senders import SlowSenders
    from portable_core.adapters.server.stopping import watch_signals

    nodes: list[Node] = []

    def stop() -> None:
        for node in nodes:
            node.stop()

    def close() -> None:
        for node in nodes:
            node.close()

    settings = read_settings_or_exit(role)
    app = build_app_or_exit(settings, nodes.append, serving=True)
    watch_signals(stop, close)
    SlowSenders(settings.threads).watch()
    gc.collect()
    gc.freeze()  # these objects stay: the collector need not scan them again
    return app


def serve(role: Role, settings: Settings, host: str) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Raises ``SettingsError`` for an address on which it cannot listen, and if a setting needs a
    package that is not installed.
    """
    check_extras(settings)
    container.check_address(host, settings.port)
    configure_logs(settings.secrets(), settings.google_project)
    container.serve(f"{__name__}:make_{role}", host, settings.port, settings.threads)
