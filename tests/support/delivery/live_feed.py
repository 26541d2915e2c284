"""A real master whose feed a test fills by sending webhooks."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.client import follow
from portable_core.demo.processes import NodeProcess
from portable_core.records import Record
from tests.support.nodes.sync_nodes import TOKEN, Nodes, start


class LiveFeed:
    """The master, and senders of webhooks."""

    def __init__(self, master: NodeProcess) -> None:
        self.master = master
        self.url = master.url

    @property
    def records(self) -> list[Record]:
        """The records in the order of the feed."""
        return [webhook.record for webhook in follow(self.url, TOKEN, once=True)]

    def add(self, *records: Record) -> None:
        """Send webhooks like these, one after the other."""
        connection = http.client.HTTPConnection("127.0.0.1", self.master.port, timeout=30)
        for record in records:
            meta = record.meta
            headers = {"Content-Type": "application/json", **meta.headers}
            connection.request(
                "POST", f"/webhook/{meta.source}?{meta.query}", record.payload, headers
            )
            response = connection.getresponse()
            response.read()
            assert response.status == 200
        connection.close()

    def stop(self) -> None:
        assert self.master.stop() == 0

    def start(self) -> None:
        start(self.master)


@contextmanager
def run_master(folder: Path) -> Iterator[LiveFeed]:
    with Nodes(folder) as nodes:
        feed = LiveFeed(nodes.make_master({}))
        feed.start()
        yield feed
