"""A master of delivery logs, in this process, with a store in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

from portable_core.node import Node
from portable_core.records import MAX_INTEGER, Record
from portable_core.settings import Settings
from portable_core.sync.report import SlaveReport
from portable_core.wiring import build_node
from tests.support.providers.api_server import CLOCK

MINUTE_MS = 60_000


def ago(minutes: float) -> int:
    """Return the time so many minutes ago, in ms."""
    return CLOCK.now() - round(minutes * MINUTE_MS)


def wait(minutes: float) -> None:
    """Let time pass."""
    CLOCK.sleep(minutes * 60)


@contextmanager
def run_master(logs: str, secrets: Mapping[str, str] = {}, **more: str) -> Iterator[Node]:
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "PROVIDER_LOGS": logs, **secrets, **more}
    with (
        patch("portable_core.wiring.SystemClock", lambda: CLOCK),
        patch("portable_core.log_clients.SystemClock", lambda: CLOCK),
    ):
        node = build_node(Settings.from_env("master", env))
    try:
        yield node
    finally:
        node.close()
        for client in node.master.clients.values() if node.master else ():
            client.close()  # type: ignore[attr-defined]  # clients of slaves and of logs have it


def sync(node: Node, name: str) -> SlaveReport:
    """Sync all, and return the report of one slave or log."""
    assert node.master is not None
    (report,) = [each for each in node.master.sync().slaves if each.slave == name]
    return report


def read(node: Node) -> list[Record]:
    return list(node.receiver.store.records(0, MAX_INTEGER))
