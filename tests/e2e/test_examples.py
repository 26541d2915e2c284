"""The examples of ``docs/examples``: killed at random, they have each effect exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.test_sync_command import COMMAND
from tests.support.delivery.feed_server import make_webhook
from tests.support.delivery.live_feed import LiveFeed, run_master
from tests.support.nodes.sync_nodes import TOKEN

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
COUNT = 150
KILLS = 6


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[LiveFeed]:
    """Webhooks of which every tenth is sent again, some time later."""
    with run_master(tmp_path) as feed:
        for number in range(COUNT):
            feed.add(make_webhook(number))
            if number % 10 == 9:
                feed.add(make_webhook(number - 7))
        yield feed


class Consumer:
    """Processes of an example, killed one after the other while its table grows."""

    def __init__(self, folder: Path, table: str, environment: dict[str, str]) -> None:
        self.database = folder / "shop.sqlite3"
        self._table = table
        self._log = folder / "log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(EXAMPLES),
            "DATABASE": str(self.database),
            **environment,
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def count(self) -> int:
        try:
            with sqlite3.connect(self.database, timeout=30) as database:
                return int(database.execute(f"SELECT COUNT(*) FROM {self._table}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # the table is not there yet

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.count() < count:
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.005)

    def run_with_kills(self, *starts: Callable[[], subprocess.Popen[bytes]]) -> list[int]:
        """Kill one process at a time and start it again; return the numbers in the table."""
        rng = random.Random(4)
        with ExitStack() as stack:
            running = [start() for start in starts]
            stack.callback(lambda: end(*running))
            for kill in range(KILLS):
                self.wait_for((kill + 1) * COUNT // (KILLS + 2))
                index = rng.randrange(len(starts))
                end(running[index])
                running[index] = starts[index]()
            self.wait_for(COUNT)
            time.sleep(0.3)  # whatever comes twice comes now
        with sqlite3.connect(self.database) as database:
            query = f"SELECT number FROM {self._table} ORDER BY number"
            return [number for (number,) in database.execute(query)]


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_django(feed: LiveFeed, tmp_path: Path) -> None:
    environment = {"MASTER_URL": feed.url, "TOKEN": TOKEN}
    consumer = Consumer(tmp_path, "shop_order", environment)
    script = str(EXAMPLES / "django_consumer.py")
    numbers = consumer.run_with_kills(lambda: consumer.start(sys.executable, script))
    assert numbers == [*range(COUNT)]


def test_fastapi_behind_forward(feed: LiveFeed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {"SECRET": SECRET, "MASTER_URL": feed.url, "SYNC_TOKENS": TOKEN}
    consumer = Consumer(tmp_path, "orders", environment)
    url, state = f"http://127.0.0.1:{port}/webhooks", str(tmp_path / "state")
    numbers = consumer.run_with_kills(
        lambda: consumer.start(
            *(sys.executable, "-m", "uvicorn", "fastapi_consumer:app", "--port", str(port))
        ),
        lambda: consumer.start(COMMAND, "forward", url, "--state", state, "--secret", SECRET),
    )
    assert numbers == [*range(COUNT)]


def test_celery(feed: LiveFeed, tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    queue.mkdir()
    options = {"data_folder_in": str(queue), "data_folder_out": str(queue)}
    environment = {
        "MASTER_URL": feed.url,
        "TOKEN": TOKEN,
        "BROKER": "filesystem://",
        "BROKER_OPTIONS": json.dumps({**options, "control_folder": str(tmp_path / "control")}),
    }
    consumer = Consumer(tmp_path, "orders", environment)
    script = str(EXAMPLES / "celery_consumer.py")
    worker = (sys.executable, "-m", "celery", "--app", "celery_consumer", "worker", "--pool=solo")
    numbers = consumer.run_with_kills(
        lambda: consumer.start(sys.executable, script),
        lambda: consumer.start(*worker, "--without-gossip", "--without-mingle"),
    )
    assert numbers == [*range(COUNT)]
