"""A consumer follows while senders and syncs write and the master is killed: nothing is skipped."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import TOKEN, Nodes, start

_HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
_ERRORS = (OSError, http.client.HTTPException)
_KILLS = 4


def connect(node: NodeProcess) -> http.client.HTTPConnection:
    parts = urlsplit(node.url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)


class Run:
    """Two senders, a consumer, and the process that is killed."""

    def __init__(self, master: NodeProcess, slave: NodeProcess) -> None:
        self.master = master
        self.slave = slave
        self.ended = threading.Event()
        self.acknowledged: set[str] = set()
        self.lines: list[dict[str, Any]] = []
        self.position = ""

    def send(self, node: NodeProcess, name: str) -> None:
        """Send webhooks one after the other; a failed one is not sent again."""
        number = 0
        while not self.ended.is_set():
            connection = connect(node)
            with suppress(*_ERRORS):
                while not self.ended.is_set():
                    number += 1
                    body = json.dumps({"name": f"{name}-{number}"})
                    connection.request("POST", "/webhook", body, _HEADERS)
                    response = connection.getresponse()
                    response.read()
                    if response.status == 200:
                        self.acknowledged.add(f"{name}-{number}")
                    time.sleep(0.002)
            connection.close()
            time.sleep(0.05)

    def consume(self) -> None:
        while not self.ended.is_set():
            with suppress(*_ERRORS):
                self.read_on(wait=1)
            time.sleep(0.02)

    def read_on(self, wait: int) -> int:
        """Read the feed once; keep the lines that arrived, although the response may be cut."""
        connection = connect(self.master)
        path = f"/feed?after={self.position}&wait={wait}"
        connection.request("GET", path, headers=_HEADERS)
        response = connection.getresponse()
        assert response.status in (200, 503), response.read()
        count = 0
        for line in iter(response.readline, b""):
            if response.status == 200 and line.endswith(b"\n"):
                document = json.loads(line)
                self.position = document["position"]
                if "end" not in document:
                    self.lines.append(document)
                    count += 1
        connection.close()
        return count


def test_a_consumer_gets_every_record_once_while_the_master_is_killed(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", SPAN_S="4")
        master = nodes.make_master({"slave": slave.url}, SYNC_EVERY_S="1", SPAN_S="4")
        start(slave, master)
        run = Run(master, slave)
        threads = [
            threading.Thread(target=run.send, args=(master, "master")),
            threading.Thread(target=run.send, args=(slave, "slave")),
            threading.Thread(target=run.consume),
        ]
        for thread in threads:
            thread.start()
        for kill in range(_KILLS):
            time.sleep(1 + kill * 0.3)
            master.kill()
            start(master)
        run.ended.set()
        for thread in threads:
            thread.join(40)
        until = time.monotonic() + 60
        names: set[str] = set()
        while not run.acknowledged <= names and time.monotonic() < until:
            run.read_on(wait=2)
            names = {line["data"]["name"] for line in run.lines}
        assert run.acknowledged <= names
        ids = [line["id"] for line in run.lines]
        assert len(ids) == len(set(ids)), "a record came twice"
        assert {line["came"] for line in run.lines} == {"direct", "slave"}
        assert master.stop() == 0
        stored = {f"{r.pair.timestamp}-{r.pair.hash}" for r in nodes.read(master)}
        assert set(ids) == stored
