"""HTTP as clients really speak it, against the event loop of a container and of a function."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.adapters.edge import server
from portable_core.demo.processes import Kind
from portable_core.settings import Settings
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import ask, post
from tests.support.requests.raw_http import connect, exchange, measure_resident, pour, read_answer

KINDS: tuple[Kind, ...] = ("container", "function")
MIB = 2**20


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_half_closes_is_answered(nodes: Nodes, kind: Kind) -> None:
    """It sends its request, shuts its sending side down and waits (RFC 9112, section 9.6)."""
    slave = nodes.make_slave("slave", kind)
    start(slave)
    for number in range(20):
        answer = exchange(slave.port, post(b'{"n":%d}' % number), end=True)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
    slave.stop()
    assert len(nodes.read(slave)) == 20


def test_a_half_closed_body_that_is_too_short_is_refused(nodes: Nodes) -> None:
    slave = nodes.make_slave()
    start(slave)
    short = ask("POST", "/webhook", body=b'{"n":1}', framing=("Content-Length: 100",))
    answer = exchange(slave.port, short, end=True)
    assert answer.status == 400
    assert "ended before" in answer.detail
    slave.stop()
    assert nodes.read(slave) == []


@pytest.mark.parametrize("kind", KINDS)
def test_413_reaches_a_client_that_sends_its_whole_body_first(nodes: Nodes, kind: Kind) -> None:
    """The rest is read and dropped: a reset would destroy the response on its way."""
    slave = nodes.make_slave("slave", kind, MAX_BODY_BYTES=str(MIB))
    start(slave)
    size = 16 * MIB
    head = ask("POST", "/webhook", framing=(f"Content-Length: {size}",))
    for _ in range(3):
        with connect(slave.port) as connection:
            connection.sendall(head)
            connection.sendall(b" " * size)
            time.sleep(0.1)
            answer = read_answer(connection)
        assert answer.status == 413
        assert "1048576" in answer.detail


@pytest.mark.parametrize("kind", KINDS)
def test_header_values_reach_the_metadata_byte_for_byte(nodes: Nodes, kind: Kind) -> None:
    """Bytes above 127 are kept as ISO 8859-1 (RFC 9110, section 5.5), which loses none."""
    values = {
        "x-github-latin": b"caf\xe9",
        "x-github-utf8": "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{SNOWMAN}".encode(),
        "x-github-all": bytes(range(0xA1, 0x100)),
    }
    slave = nodes.make_slave("slave", kind, KEEP_HEADERS="x-github-*")
    start(slave)
    head, _, body = post(b'{"n":1}').partition(b"\r\n\r\n")
    given = b"".join(b"\r\n%b: %b" % (name.encode(), value) for name, value in values.items())
    assert exchange(slave.port, head + given + b"\r\n\r\n" + body).status == 200
    slave.stop()
    (record,) = nodes.read(slave)
    kept = {name: value.encode("latin-1") for name, value in record.meta.headers.items()}
    assert {name: kept[name] for name in values} == values


def test_requests_in_one_packet_are_answered_in_order(nodes: Nodes) -> None:
    slave = nodes.make_slave()
    start(slave)
    requests = [
        post(b'{"n":1}'),
        ask("GET", "/no-such-page"),
        post(b"not JSON"),
        post(b'{"n":2}', "Connection: close"),
    ]
    with connect(slave.port) as connection:
        connection.sendall(b"".join(requests))
        data = b""
        while piece := connection.recv(65536):
            data += piece
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 400, 200]


@pytest.mark.parametrize("together", ["one packet", "half-closed"])
def test_any_number_of_requests_may_be_pipelined(nodes: Nodes, together: str) -> None:
    """Those beyond the first 64 wait, as bytes, for the responses of those before."""
    slave = nodes.make_slave()
    start(slave)
    count = 1000
    requests = [post(b'{"n":%d}' % number) for number in range(count - 1)]
    with connect(slave.port) as connection:
        if together == "half-closed":
            connection.sendall(b"".join([*requests, post(b'{"n":"last"}')]))
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.sendall(b"".join([*requests, post(b'{"n":"last"}', "Connection: close")]))
        data = b""
        while piece := connection.recv(65536):
            data += piece
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200] * count
    slave.stop()
    assert len(nodes.read(slave)) == count


def test_a_large_body_may_follow_many_pipelined_requests(nodes: Nodes) -> None:
    """Reading pauses behind the 64, and goes on in the middle of the body."""
    slave = nodes.make_slave()
    start(slave)
    large = b'{"n":"%b"}' % (b"x" * 3 * MIB)
    small = [post(b'{"n":%d}' % number) for number in range(200)]
    chunked = ask(
        "POST",
        "/webhook",
        body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large.replace(b"n", b"m")),
        framing=("Transfer-Encoding: chunked",),
    )
    with connect(slave.port) as connection:
        sent = b"".join([*small, post(large), *small, chunked, post(b"{}", "Connection: close")])
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        data = b""
        while piece := connection.recv(65536):
            data += piece
        sender.join()
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200] * 403
    slave.stop()
    stored = nodes.read(slave)
    assert len(stored) == 403
    assert large in [record.payload for record in stored]


def test_an_upgrade_is_ignored(nodes: Nodes) -> None:
    """Java's client asks for HTTP/2 with each request over plain HTTP."""
    slave = nodes.make_slave()
    start(slave)
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
    with connect(slave.port) as connection:
        for number in range(3):
            connection.sendall(post(b'{"n":%d}' % number, *fields))
            assert read_answer(connection).status == 200
    slave.stop()
    assert len(nodes.read(slave)) == 3


def test_an_upgrade_of_a_kept_http_1_0_connection_is_ignored(nodes: Nodes) -> None:
    slave = nodes.make_slave()
    start(slave)
    request = ask(
        "POST",
        "/webhook",
        *("Connection: keep-alive, Upgrade", "Upgrade: h2c"),
        body=b'{"n":1}',
        version="HTTP/1.0",
    )
    with connect(slave.port) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert read_answer(connection).status == 200


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9"])
def test_another_version_of_http_is_refused(nodes: Nodes, version: str) -> None:
    """RFC 9110, section 15.6.6."""
    slave = nodes.make_slave()
    start(slave)
    answer = exchange(slave.port, ask("GET", "/health", version=version))
    assert answer.status == 505
    assert version in answer.detail
    assert exchange(slave.port, ask("POST", "/webhook", body=b"{}", version=version)).status == 505
    slave.stop()
    assert nodes.read(slave) == []


def test_100_continue_is_sent_for_a_body_only(nodes: Nodes) -> None:
    """RFC 9110, section 10.1.1."""
    slave = nodes.make_slave()
    start(slave)
    expecting = "Expect: 100-continue"
    with connect(slave.port) as connection:
        connection.sendall(ask("POST", "/webhook", expecting))
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        connection.sendall(ask("POST", "/webhook", expecting, framing=("Content-Length: 2",)))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopping_node_answers_and_says_that_the_connection_ends(
    nodes: Nodes, kind: Kind
) -> None:
    """A load balancer then sends nothing more on it."""
    slave = nodes.make_slave("slave", kind)
    start(slave)
    request = post(b'{"n":1}')
    stopper = threading.Thread(target=slave.stop)
    with connect(slave.port) as connection, connect(slave.port) as idle:
        idle.sendall(post(b'{"n":2}'))
        assert read_answer(idle).headers.get("connection") is None
        connection.sendall(request[:-3])
        time.sleep(0.3)
        stopper.start()
        assert idle.recv(1) == b""
        connection.sendall(request[-3:])
        answer = read_answer(connection)
    stopper.join()
    assert answer.status in (200, 503)
    assert answer.headers["connection"] == "close"
    assert len(nodes.read(slave)) == (2 if answer.status == 200 else 1)


@pytest.mark.parametrize("kind", ["container", pytest.param("function", marks=pytest.mark.deep)])
def test_an_idle_connection_is_closed_after_its_time_only(nodes: Nodes, kind: Kind) -> None:
    slave = nodes.make_slave("slave", kind, IDLE_TIMEOUT_S="3")
    start(slave)
    with connect(slave.port) as connection:
        connection.sendall(post(b'{"n":1}'))
        assert read_answer(connection).status == 200
        time.sleep(1)
        connection.sendall(post(b'{"n":2}'))
        assert read_answer(connection).status == 200
        begun = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - begun > 2.5


def test_an_idle_connection_outlives_those_of_load_balancers() -> None:
    """Google's keep theirs for 600 s."""
    settings = Settings.from_env("slave", {"SYNC_AUTH": "none", "STORE": "sqlite:x"})
    assert server.make_limits(settings).idle_s > 600


def test_more_connections_than_open_files_are_survived(nodes: Nodes) -> None:
    """Those that are idle for longest make room; the node says how many it can keep."""
    slave = nodes.make_slave()
    slave.start()
    resource.prlimit(slave.pid, resource.RLIMIT_NOFILE, (256, 256))  # long before it looks
    slave.wait_until_healthy()
    with contextlib.ExitStack() as stack:
        for number in range(400):
            connection = stack.enter_context(connect(slave.port))
            if number % 2:
                with contextlib.suppress(OSError):
                    connection.sendall(b"POST /webhook HTTP/1.1\r\nHo")
        for number in range(20):
            assert exchange(slave.port, post(b'{"n":%d}' % number)).status == 200
    slave.stop()
    assert len(nodes.read(slave)) == 20
    assert "not MAX_CONNECTIONS=16384" in slave.log.read_text()


def test_a_trailer_is_no_header(nodes: Nodes) -> None:
    """RFC 9110, section 6.5.1: it must not become a signature, an event or a content type."""
    slave = nodes.make_slave()
    start(slave)
    trailers = b"X-GitHub-Event: forged\r\nContent-Type: text/plain\r\n"
    body = b'7\r\n{"n":1}\r\n0\r\n' + trailers + b"\r\n"
    request = ask("POST", "/webhook", body=body, framing=("Transfer-Encoding: chunked",))
    assert exchange(slave.port, request).status == 200
    slave.stop()
    (record,) = nodes.read(slave)
    assert "x-github-event" not in record.meta.headers


@pytest.mark.parametrize("begun", ["trailer", "extension", "header"])
def test_what_has_no_end_is_refused(nodes: Nodes, begun: str) -> None:
    """The parser keeps a line that has not ended; a node grants a bounded length."""
    slave = nodes.make_slave()
    start(slave)
    chunked = ask("POST", "/webhook", framing=("Transfer-Encoding: chunked",))
    head = {
        "trailer": chunked + b'7\r\n{"n":1}\r\n0\r\nX: ',
        "extension": chunked + b"7;x=",
        "header": b"POST /webhook HTTP/1.1\r\nHost: a\r\nX: ",
    }[begun]
    answer, sent = pour(slave.port, head, (b"x" * 65536 for _ in range(2000)))
    assert answer.status in (400, 431)
    assert sent < 80 * MIB
    assert exchange(slave.port, post(b'{"n":2}')).status == 200
    slave.stop()
    assert len(nodes.read(slave)) == 1


def test_a_client_that_reads_nothing_gets_no_more_responses(nodes: Nodes) -> None:
    """Responses are bounded: the next request waits until the client reads."""
    slave = nodes.make_slave()
    start(slave)
    before, _ = measure_resident(slave.pid)
    request = ask("GET", "/openapi.json", "X-Padding: " + "x" * 16384)
    with connect(slave.port) as connection:
        connection.settimeout(2)
        asked = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(5000):
                connection.sendall(request)
                asked += 1
        _, peak = measure_resident(slave.pid)
        assert peak - before < 64 * MIB
        connection.settimeout(30)
        data = b""
        while data.count(b"HTTP/1.1 200 ") < min(asked, 50):
            piece = connection.recv(MIB)
            assert piece
            data += piece
    assert exchange(slave.port, post(b'{"n":1}')).status == 200
