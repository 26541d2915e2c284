"""``forward`` beside a master, as ``FORWARD_URL`` asks for: its process, and its dead letters."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import closing
from functools import partial
from pathlib import Path

from portable_core.adapters.server.forwarder import Forwarder
from portable_core.node import Node
from portable_core.settings import Settings
from portable_core.webhooks.dead_letters import DeadLetters
from portable_core.webhooks.forward import HttpTarget

#: The name under which the process registers its position.
CONSUMER = "forward"


def find_state(settings: Settings) -> Path:
    """Return the file of the state, in the folder of the store."""
    return Path(settings.store.path) / "forward" / "state.sqlite3"


def build_dead_letters(settings: Settings) -> DeadLetters:
    """Return access to the dead letters of the process."""
    from portable_core.adapters.delivery_state import DeliveryFile
    from portable_core.adapters.http.sender import connect
    from portable_core.adapters.http.tls import make_tls

    path = find_state(settings)
    reach = partial(connect, tls=make_tls(settings.ca_file))
    return DeadLetters(
        lambda: closing(DeliveryFile(path, exclusive=False)) if path.exists() else None,
        HttpTarget(settings.forward_url, reach, settings.forward_secret),
    )


def make_forwarder(settings: Settings, node: Node, listener: socket.socket) -> Forwarder | None:
    """Return the process; None without ``FORWARD_URL``. It reads the feed through ``listener``."""
    if not settings.forward_url:
        return None
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    address = f"[{host}]" if ":" in host else host
    # The settings may come from a file, which the process does not read.
    environment = {
        "MASTER_URL": f"http://{address}:{port}",
        "SYNC_TOKENS": ",".join(settings.sync_tokens[:1]),
        "FORWARD_URL": settings.forward_url,
        "FORWARD_SECRET": settings.forward_secret,
        "CA_FILE": settings.ca_file,
    }
    options = ("--consumer", CONSUMER, *settings.forward_options)
    return Forwarder(find_state(settings), options, environment, lambda: node.stopping)
