"""A clock that is wrong for a moment: nothing that a node does in it outlives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from portable_core.adapters.flask_app import create_app
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.adapters.sqlite import SqliteStore
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.slave import Slave

START = 1_700_000_000_000
HOUR = 3_600_000
YEAR = 365 * 24 * HOUR
LIMIT = 30_000


class ClockedNode:
    """A slave on SQLite with a clock of its own, and a client of its application."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SimulatedClock(START)
        self.start()

    def start(self) -> None:
        env = {"STORE": f"sqlite:{self.folder}", "SYNC_AUTH": "none"}
        settings = Settings.from_env("slave", env)
        self.receiver = Receiver(settings, SqliteStore(self.folder), self.clock)
        self.slave = Slave(self.receiver)
        node = Node(settings, self.receiver, lambda _: None, lambda *_: Admit(), slave=self.slave)
        self.client: FlaskClient = create_app(node).test_client()

    def restart(self) -> None:
        self.receiver.close()
        self.start()

    def receive(self) -> int:
        """Receive a webhook and return its timestamp."""
        return self.receiver.receive(b'{"n":%d}' % self.clock.now(), Meta()).timestamp

    def read(self, path: str) -> dict[str, object]:
        response = self.client.get(path)
        assert response.status_code == 200
        document: dict[str, object] = response.get_json()
        return document

    def read_warnings(self) -> list[str]:
        warnings = self.read("/health")["warnings"]
        assert isinstance(warnings, list)
        return warnings


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClockedNode]:
    node = ClockedNode(tmp_path / "store")
    with closing(node.receiver):
        yield node
        node.receiver.close()


USES: dict[str, Callable[[ClockedNode], object]] = {
    "status": lambda node: node.read("/status"),
    "metrics": lambda node: node.receiver.status(),
    "sync": lambda node: node.read("/sync"),
    "webhook": lambda node: node.receive(),
    "retention": lambda node: node.slave.retain(now=True),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("ahead", [HOUR, YEAR])
def test_a_moment_ahead_leaves_no_trace(node: ClockedNode, use: str, ahead: int) -> None:
    first = node.receive()
    node.clock.sleep(1)
    node.clock.set(node.clock.now() + ahead)
    USES[use](node)
    node.clock.sleep(0.5)
    node.clock.set(node.clock.now() - ahead)
    assert first <= node.receive() == node.clock.now()
    node.restart()
    node.clock.sleep(1)
    assert node.receive() == node.clock.now()
    status = node.read("/status")
    assert status["clock"] == {"ahead_ms": 0, "since": None, "store_ahead_ms": 0}
    assert node.read_warnings() == []
    assert node.slave.describe().now <= node.clock.now() + 1


def test_one_sender_of_equal_webhooks_pushes_no_timestamps_ahead(node: ClockedNode) -> None:
    for number in range(2_000):
        node.clock.sleep(0.001)
        for _ in range(2 + (number % 5 == 0)):
            node.receiver.submit(b"{}", Meta())
        if number % 100 == 0:
            node.receiver.flush()
    assert node.receive() - node.clock.now() <= 51
    buffer = node.read("/status")["buffer"]
    assert isinstance(buffer, dict)
    assert buffer["collapsed"] > 1_000


def test_a_clock_that_is_ahead_is_reported(node: ClockedNode) -> None:
    node.receive()
    node.clock.set(START + YEAR)
    (warning,) = node.read_warnings()
    assert "31536000.0 s ahead" in warning
    clock = node.read("/status")["clock"]
    assert clock == {"ahead_ms": YEAR, "since": START, "store_ahead_ms": 0}


def test_a_store_that_is_ahead_is_reported(
    node: ClockedNode, caplog: pytest.LogCaptureFixture
) -> None:
    node.clock.set(START + YEAR)  # before the first reading: nothing shows that it is wrong
    node.receive()
    node.receiver.close()
    node.clock.set(START)
    caplog.clear()
    node.start()
    (warning,) = node.read_warnings()
    assert "webhook-sync repair" in warning
    assert [record.getMessage() for record in caplog.records].count(warning) == 1
    clock = node.read("/status")["clock"]
    assert clock == {"ahead_ms": 0, "since": None, "store_ahead_ms": YEAR + 1}
