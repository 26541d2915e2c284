"""A server of the arrival feed, from a list: the documented format over real HTTP, with faults."""

from __future__ import annotations

import base64
import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from portable_core.records import Meta, Pair, Record, format_id
from portable_core.webhooks.names import find_event

TOKEN = "a-token-for-tests"
BASE_MS = 1_795_000_000_000


def make_webhook(number: int, source: str = "s", payload: bytes | None = None) -> Record:
    """A record whose payload has its number; its key is the number in hexadecimal."""
    if payload is None:
        payload = b'{"number":%d, "price":12.0}' % number
    headers = {"x-github-event": "push", "x-github-delivery": str(number)}
    meta = Meta(source, headers, f"n={number}", key=f"{number:032x}")
    return Record(Pair(BASE_MS + number, zlib.crc32(payload)), payload, meta)


@dataclass(slots=True)
class FeedServer:
    """``records`` in the order of arrival; ``cut_after`` cuts each response after so many lines."""

    records: list[Record] = field(default_factory=list)
    url: str = ""
    port: int = 0
    cut_after: int | None = None
    queries: list[dict[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, *records: Record) -> None:
        with self.changed:
            self.records += records
            self.changed.notify_all()

    def make_lines(self, start: int, source: str | None) -> Iterator[bytes]:
        seen = {record.meta.key for record in self.records[:start]}
        for number in range(start, len(self.records)):
            record = self.records[number]
            meta = record.meta
            repeat = meta.key in seen
            seen.add(meta.key)
            if source is not None and ("" if source == "-" else source) != meta.source:
                continue
            line = {
                "position": f"v1:store:{number + 1}",
                "id": format_id(record.pair),
                "key": meta.key,
                "repeat": repeat,
                "source": meta.source,
                "event": find_event(meta) or None,
                "timestamp": record.pair.timestamp,
                "came": "direct",
                "headers": dict(meta.headers),
                "query": meta.query,
                "raw": base64.b64encode(record.payload).decode(),
            }
            yield json.dumps(line).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    feed: FeedServer

    def do_GET(self) -> None:
        feed, parts = self.feed, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        feed.queries.append(query)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.refuse(401, "a token is missing")
        store, _, number = query.get("after", "v1:store:0").rpartition(":")
        if store != "v1:store":
            return self.refuse(409, "the position is of another store")
        start = int(number)
        deadline = time.monotonic() + float(query.get("wait", "0"))
        with feed.changed:
            while len(feed.records) <= start and time.monotonic() < deadline:
                feed.changed.wait(min(0.5, deadline - time.monotonic()))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = len(feed.records)
        for sent, line in enumerate(feed.make_lines(start, query.get("source"))):
            if sent == feed.cut_after:
                self.send_chunk(line[: len(line) // 2])
                self.close_connection = True
                self.wfile.write(b"0\r\n\r\n" if sent % 2 else b"")  # a clean end, too, is a cut
                return None
            self.send_chunk(line)
        position = f"v1:store:{max(start, end)}"
        self.send_chunk(json.dumps({"end": True, "position": position}).encode() + b"\n")
        self.wfile.write(b"0\r\n\r\n")
        return None

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def refuse(self, status: int, detail: str) -> None:
        body = json.dumps({"title": "Refused", "detail": detail}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Ignore clients that are gone."""


@contextmanager
def serve_feed(feed: FeedServer | None = None, port: int = 0) -> Iterator[FeedServer]:
    """Serve on the loopback interface; a feed can be served again on its port."""
    feed = feed or FeedServer()
    handler = type("Handler", (_Handler,), {"feed": feed})
    server = _Server(("127.0.0.1", port), handler)
    feed.port = server.server_port
    feed.url = f"http://127.0.0.1:{feed.port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield feed
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
