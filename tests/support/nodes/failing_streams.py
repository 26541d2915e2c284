"""A master in the container's server whose store breaks off each iteration with a payload's text.

python -m tests.support.nodes.failing_streams PORT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from portable_core.adapters.edge import server
from portable_core.adapters.flask_app import create_app
from portable_core.adapters.logs import configure_logs
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.records import Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.master import Master

#: Never in one piece in the code, of which a traceback shows lines.
MARKED = "-".join(["payload", "marker"])


class BreakingStore(MemoryStore):
    """Its iterations fail as a third party's code would: with a text that quotes a payload."""

    def pairs(self, start: int, end: int) -> Iterator[Pair]:
        yield Pair(1, 1)
        _fail()

    def records(self, start: int, end: int) -> Iterator[Record]:
        yield Record(Pair(1, 1), b"{}", Meta("", {}))
        _fail()


def _fail() -> None:
    text = f'cannot parse\n{MARKED}: \nTraceback (most recent call last):\n  File "{MARKED}"'
    raise ValueError(f"{text}, line 1, in {MARKED}\n    {MARKED}\n{MARKED}")


def make() -> Node:
    settings = Settings.from_env("master", {"SYNC_AUTH": "none", "STORE": "memory:"})
    store = BreakingStore()
    receiver = Receiver(settings, store, SystemClock())
    master = Master(receiver, store, [])
    return Node(settings, receiver, lambda header: None, lambda *_: Admit(), master=master)


if __name__ == "__main__":
    configure_logs()
    node = make()
    sockets = server.open_sockets("127.0.0.1", int(sys.argv[1]))
    server.serve(node, create_app(node), sockets)
