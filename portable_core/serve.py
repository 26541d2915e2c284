"""Serve a node from a container: one process with an event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portable_core.adapters.edge import server
from portable_core.adapters.logs import configure_logs
from portable_core.extras import check_extras
from portable_core.forwarding import make_forwarder
from portable_core.settings import Settings
from portable_core.wiring import build_app_or_exit

if TYPE_CHECKING:
    from portable_core.node import Node

logger = logging.getLogger(__name__)


def serve(settings: Settings, host: str) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Raises ``SettingsError`` for an address on which it cannot listen, and if a setting needs a
    package that is not installed.
    """
    check_extras(settings)
    configure_logs(settings.secrets(), settings.google_project)
    sockets = server.open_sockets(host, settings.port)
    nodes: list[Node] = []
    app = build_app_or_exit(settings, nodes.append, serving=True)
    (node,) = nodes
    forwarder = make_forwarder(settings, node, sockets[0])

    def report() -> None:
        logger.info("listening on %s", place)
        if forwarder is not None:
            forwarder.start()

    place = ", ".join(f"{s.getsockname()[0]} port {s.getsockname()[1]}" for s in sockets)
    server.serve(node, app, sockets, report)
    if forwarder is not None:
        forwarder.join()
