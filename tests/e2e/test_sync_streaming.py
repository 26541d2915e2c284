"""A sync streams both ways at once, under both servers and whatever is in between."""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Iterable, Iterator

import pytest

from loadtests.proxy import Plan, Proxy
from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.demo.processes import Kind, NodeProcess
from portable_core.ports import SyncRequest
from portable_core.records import Pair, Record
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, start

JSON = "application/json"
MSGPACK = "application/vnd.msgpack"
SPAN_MS = 1000
#: More than the buffers of both ends of a connection hold together (tcp_rmem, tcp_wmem).
LARGE = 24 * 2**20


@pytest.fixture(scope="module", params=["container", "function"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


class Rig:
    """A slave that runs, with 2,000 records in 20 seconds and then 24 large ones."""

    def __init__(self, nodes: Nodes, kind: Kind) -> None:
        self.begin = now_ms() - 600_000
        self.records = [make_record(n, self.begin + 10 * n) for n in range(2000)]
        self.later = self.begin + 60_000
        self.large = [make_record(n, self.later + n, 2**20) for n in range(10_000, 10_024)]
        self.end = self.later + 60_000
        self.slave: NodeProcess = nodes.make_slave("slave", kind, SPAN_S="1")
        fill(nodes.folder / "slave", self.records)
        fill(nodes.folder / "slave", self.large)
        start(self.slave)


@pytest.fixture(scope="module")
def rig(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Nodes(tmp_path_factory.mktemp("streaming")) as nodes:
        yield Rig(nodes, kind)


class RawSync:
    """``POST /sync`` by hand, piece by piece."""

    def __init__(self, slave: NodeProcess, start: int, end: int, media_type: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", slave.port), timeout=30)
        self._reader = ENCODINGS[media_type].read_records()
        self._response: http.client.HTTPResponse | None = None
        self._sock.sendall(
            f"POST /sync?start={start}&end={end}&span={SPAN_MS}&hash=crc32c&identity=1 HTTP/1.1\r\n"
            f"Host: slave\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {media_type}\r\n"
            f"Accept: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )

    def send(self, data: bytes) -> None:
        self._sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        self._sock.sendall(b"0\r\n\r\n")

    def receive(self, count: int | None = None) -> list[Record]:
        """At least ``count`` more records, or those up to the closing mark."""
        records: list[Record] = []
        if self._response is None:
            self._response = http.client.HTTPResponse(self._sock, method="POST")
            self._response.begin()
            assert self._response.status == 200
        while count is None or len(records) < count:
            chunk = self._response.read1(65536)
            records += self._reader.feed(chunk)
            if not chunk:
                self._reader.finish()
                break
        return records

    def close(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if self._response is not None:
            self._response.close()
        self._sock.close()


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
def test_a_missing_record_leaves_before_the_request_is_read(rig: Rig, media_type: str) -> None:
    """The client lacks every second record, and keeps back the last quarter of its pairs."""
    held = [record.pair for record in rig.records[::2]]
    body = b"".join(ENCODINGS[media_type].encode_pairs(held))
    most = len(body) * 3 // 4
    sync = RawSync(rig.slave, rig.begin, rig.later, media_type)
    sync.send(body[:most])
    # Known to be missing are those a span before the last pair sent. What a server has read of
    # the request comes in pieces of 8 KiB, so it may be a little less.
    early = sync.receive(count=150)
    assert [record.pair for record in early] == [
        record.pair for record in rig.records[1 : 2 * len(early) : 2]
    ]
    sync.send(body[most:])
    sync.finish()
    assert early + sync.receive() == rig.records[1::2]
    sync.close()


def pad(pairs: list[Pair], size: int) -> Iterator[bytes]:
    """A JSON request of about ``size`` bytes: white space counts, and costs nothing to read."""
    space = b" " * (size // len(pairs))
    opening = b"["
    for pair in pairs:
        yield opening + b"%d,%d" % (pair.hash, pair.timestamp) + space
        opening = b","
    yield b"]"


def sync_all(
    url: str, start: int, end: int, body: Iterable[bytes], media_type: str = JSON
) -> list[Record]:
    """The whole answer, as a master's client gets it."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reader = ENCODINGS[media_type].read_records()
    records: list[Record] = []
    with HttpSlaveClient("alpha", url, credentials=lambda: headers, idle_s=30) as client:
        request = SyncRequest(start, end, SPAN_MS, "crc32c", media_type, body)
        with client.exchange(request) as answer:
            for chunk in answer.chunks:
                records += reader.feed(chunk)
        reader.finish()
    return records


def test_a_request_and_an_answer_larger_than_all_buffers(rig: Rig) -> None:
    others = [Pair(rig.later - SPAN_MS + n, n) for n in range(3000)]
    body = pad(others, LARGE)
    assert sync_all(rig.slave.url, rig.later, rig.end, body) == rig.large


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
def test_a_proxy_that_holds_everything_back(rig: Rig, media_type: str) -> None:
    """What comes later is not wrong."""
    held = [record.pair for record in rig.records[::2]]
    body = ENCODINGS[media_type].encode_pairs(held, chunk_pairs=50)
    with Proxy(rig.slave.port, lambda line: Plan(hold=True)) as proxy:
        records = sync_all(proxy.url, rig.begin, rig.later, body, media_type)
    assert records == rig.records[1::2]


def test_a_proxy_that_holds_back_much(rig: Rig) -> None:
    with Proxy(rig.slave.port, lambda line: Plan(hold=True)) as proxy:
        body = pad([Pair(rig.later, 1), Pair(rig.end, 2)], 2**20)
        assert sync_all(proxy.url, rig.later, rig.end, body) == rig.large


def test_a_link_that_is_slow_both_ways(rig: Rig) -> None:
    held = [record.pair for record in rig.records[::2]]
    body = ENCODINGS[MSGPACK].encode_pairs(held, chunk_pairs=50)
    with Proxy(rig.slave.port, lambda line: Plan(rate=150_000, delay_s=0.05)) as proxy:
        records = sync_all(proxy.url, rig.begin, rig.later, body, MSGPACK)
    assert records == rig.records[1::2]


def test_a_proxy_that_drips(rig: Rig) -> None:
    """A few bytes at a time: every boundary falls somewhere within an element."""
    held = [record.pair for record in rig.records[:40:2]]
    body = ENCODINGS[MSGPACK].encode_pairs(held)
    with Proxy(rig.slave.port, lambda line: Plan(rate=20_000)) as proxy:
        records = sync_all(proxy.url, rig.begin, rig.begin + 400, body, MSGPACK)
    assert records == rig.records[1:40:2]
