"""The HTTP client on good days: what it sends, how it streams, what it holds in memory."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.errors import SlaveUnreachable
from portable_core.ports import SlaveClient
from portable_core.sync.protocol import info_to_json
from tests.support.nodes.hostile_slave import MSGPACK, UUID, HostileSlave, Talk
from tests.support.nodes.http_clients import INFO, ask, connect, echo, exchange, read_rss


def test_it_is_the_port() -> None:
    client: SlaveClient = connect("http://127.0.0.1:1")
    assert client.name == "alpha"


def test_what_a_sync_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy of the environment would see the token; this one does not even exist.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    heads: list[bytes] = []

    def handle(talk: Talk) -> None:
        heads.append(talk.read_head())
        body = b"".join(talk.read_body())
        talk.send_head(Set_Cookie="visit=1; Path=/", Content_Type=MSGPACK + "; charset=utf-8")
        talk.send_chunk(body)
        talk.end()

    with HostileSlave(handle) as slave, connect(slave.url + "/fn/") as client:
        assert exchange(client, iter([b"one,", b"", b"two"])) == b"one,two"
        assert exchange(client, []) == b""
    first, *lines = heads[0].decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    assert first == (
        "POST /fn/sync?start=5&end=9007199254740991&span=120000&hash=crc32c&identity=1 HTTP/1.1"
    )
    agent = headers.pop("user-agent")
    assert "aiohttp" in agent
    assert headers == {
        "host": f"127.0.0.1:{slave.port}",
        "authorization": "bearer correct-horse",
        "accept": MSGPACK,
        "accept-encoding": "identity",
        "content-type": MSGPACK,
        "transfer-encoding": "chunked",
        "connection": "close",
    }
    # No cookie comes back.
    assert heads[1] == heads[0]


@pytest.mark.parametrize(("compare_only", "mark"), [(True, 0), (False, 5)])
def test_a_slave_of_an_older_release_knows_a_comparison(compare_only: bool, mark: int) -> None:
    """Such a slave reads ``keep`` alone, and raises its retention mark unless that is 1."""
    marks: list[int] = []

    def handle(talk: Talk) -> None:
        target = talk.read_head().split(b" ")[1].decode()
        query = dict(parse_qsl(urlsplit(target).query))
        marks.append(0 if query.get("keep") == "1" else int(query["start"]))
        for chunk in talk.read_body():
            assert chunk
        talk.send_head()
        talk.end()

    request = replace(ask(), compare_only=compare_only)
    with (
        HostileSlave(handle) as slave,
        connect(slave.url) as client,
        client.exchange(request) as answer,
    ):
        assert list(answer.chunks) == []
    assert marks == [mark]


def test_the_answers_head() -> None:
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        with client.exchange(ask()) as answer:
            head = (answer.store, answer.generation, answer.through, answer.media_type)
        assert head == (UUID, 3, 1_700_000_000_000, MSGPACK)


def test_describe() -> None:
    heads: list[bytes] = []

    def handle(talk: Talk) -> None:
        heads.append(talk.read_head())
        body = json.dumps(info_to_json(INFO) | {"future": 1}).encode()
        talk.send_whole("200 OK", body, Content_Type="application/json")

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        assert client.describe() == INFO
    assert heads[0].startswith(b"GET /sync HTTP/1.1\r\n")
    assert b"authorization: bearer correct-horse" in heads[0].lower()
    assert b"transfer-encoding" not in heads[0].lower()


def test_credentials_are_asked_for_each_time() -> None:
    seen: list[bytes] = []
    tokens = iter(["first-token", "second-token"])

    def handle(talk: Talk) -> None:
        seen.extend(line for line in talk.read_head().split(b"\r\n") if b"token" in line)
        list(talk.read_body())
        talk.send_head()
        talk.end()

    def credentials() -> Mapping[str, str]:
        return {"Authorization": f"Bearer {next(tokens)}"}

    with (
        HostileSlave(handle) as slave,
        HttpSlaveClient("a", slave.url, credentials=credentials, idle_s=5) as client,
    ):
        exchange(client)
        exchange(client)
    assert seen == [b"Authorization: Bearer first-token", b"Authorization: Bearer second-token"]


def test_both_directions_at_once() -> None:
    """Each side sends its next chunk only when it got the other's: nothing may wait for an end."""
    got = threading.Semaphore(0)

    def body() -> Iterator[bytes]:
        for number in range(50):
            yield b"%d;" % number
            got.acquire()

    with HostileSlave(echo) as slave, connect(slave.url) as client:
        received = []
        with client.exchange(ask(body())) as answer:
            for chunk in answer.chunks:
                received.append(chunk)
                got.release()
        assert received == [b"%d;" % number for number in range(50)]


def test_an_answer_that_waits_for_the_whole_request() -> None:
    def handle(talk: Talk) -> None:
        talk.read_head()
        body = b"".join(talk.read_body())
        talk.send_whole("200 OK", body)

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        blocks = [bytes([number]) * 100_000 for number in range(100)]
        assert exchange(client, blocks) == b"".join(blocks)


def test_large_both_ways_in_flat_memory() -> None:
    block = os.urandom(65_536)
    count = 1024  # 64 MiB

    with HostileSlave(echo) as slave, connect(slave.url) as client:
        exchange(client, [block])  # so that what is made once is there
        before, peak, received = read_rss(), 0, 0
        with client.exchange(ask(block for _ in range(count))) as answer:
            for chunk in answer.chunks:
                assert len(chunk) <= 65_536
                received += len(chunk)
                if received % 2**22 < 65_536:
                    peak = max(peak, read_rss())
    assert received == count * len(block)
    assert peak - before < 12 * 2**20


def test_one_huge_item_of_the_body() -> None:
    huge = os.urandom(2**20) * 8
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        assert exchange(client, [b"a", huge, b"z"]) == b"a" + huge + b"z"


def test_a_slow_caller_makes_the_slave_wait() -> None:
    sent = 0

    def handle(talk: Talk) -> None:
        nonlocal sent
        talk.read_head()
        list(talk.read_body())
        talk.send_head()
        while sent < 2**28:
            talk.send_chunk(b"x" * 65_536)
            sent += 65_536

    with HostileSlave(handle) as slave, connect(slave.url, idle_s=0.3) as client:
        with client.exchange(ask()) as answer:
            next(answer.chunks)
            before, at_first = read_rss(), -1
            while sent != at_first:  # until it stands still
                at_first = sent
                time.sleep(0.5)  # longer than idle_s: this silence is not the slave's
            assert 0 < sent < 2**26  # what the kernel's buffers hold
            assert read_rss() - before < 12 * 2**20
            assert all(next(answer.chunks) for _ in range(1000))  # still streaming
        slave.wait()


def test_a_slave_that_does_not_read_stops_the_body() -> None:
    pulled = 0
    stop = threading.Event()

    def body() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(2**13):
            pulled += 65_536
            yield b"x" * 65_536

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        stop.wait(20)

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        with client.exchange(ask(body())) as answer:
            assert next(answer.chunks) == b"!"
            at_first = -1
            while pulled != at_first:
                at_first = pulled
                time.sleep(0.3)
            assert pulled < 2**26  # what the kernel's buffers hold, of 512 MiB
        stop.set()


def test_drip() -> None:
    text = bytes(range(256))

    def handle(talk: Talk) -> None:
        talk.read_head()
        list(talk.read_body())
        talk.send_head()
        for number in text:
            talk.send_chunk(bytes([number]))
        talk.end()

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        assert exchange(client) == text


def test_an_answer_that_ends_with_its_connection() -> None:
    def handle(talk: Talk) -> None:
        talk.read_head()
        list(talk.read_body())
        talk.send_head(Transfer_Encoding="")
        talk.send(b"until the end")

    with HostileSlave(handle) as slave, connect(slave.url) as client:
        assert exchange(client) == b"until the end"


def test_many_exchanges_leave_nothing_behind() -> None:
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        exchange(client)
        slave.wait()
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for number in range(60):
            with client.exchange(ask(b"%d" % number for _ in range(3))) as answer:
                if number % 2:
                    assert b"".join(answer.chunks) == b"%d" % number * 3
        slave.wait()
        assert slave.connections == 61  # none was used twice
        assert threading.active_count() <= threads
        assert len(os.listdir("/proc/self/fd")) <= files


def test_several_threads_share_a_client() -> None:
    results: dict[int, bytes] = {}

    def run(number: int, client: HttpSlaveClient) -> None:
        results[number] = exchange(client, [b"%d" % number] * 500)

    with HostileSlave(echo) as slave, connect(slave.url) as client:
        threads = [threading.Thread(target=run, args=(n, client)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert results == {n: b"%d" % n * 500 for n in range(8)}


def test_closing_ends_what_runs_and_allows_more() -> None:
    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()
        talk.send_chunk(b"!")
        talk.wait_for_end()

    with HostileSlave(handle) as slave:
        client = connect(slave.url)
        client.close()
        for _ in range(2):
            with client.exchange(ask()) as answer:
                assert next(answer.chunks) == b"!"
                client.close()
                client.close()
                with pytest.raises(SlaveUnreachable, match="ended by this side"):
                    next(answer.chunks)
        slave.wait()


@pytest.mark.parametrize("used_before", [False, True])
def test_after_a_fork(used_before: bool) -> None:
    with HostileSlave(echo) as slave, connect(slave.url) as client:
        if used_before:
            exchange(client)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if exchange(client, [b"child"] * 1000) == b"child" * 1000 else 2
                client.close()
            finally:
                os._exit(code)
        assert exchange(client, [b"parent"] * 1000) == b"parent" * 1000
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert exchange(client) == b"pairs"
