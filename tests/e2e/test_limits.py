"""The limits of a node, each with its clear answer, and that it goes on working."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind, NodeProcess
from portable_core.records import Pair
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start, sync
from tests.support.requests.bad_requests import TOKEN, ask, post
from tests.support.requests.raw_http import connect, exchange, measure_resident, pour, read_answer

KINDS = ["container", pytest.param("function", marks=pytest.mark.deep)]
MIB = 2**20

#: The most characters of the headers that are kept, names and values.
KEPT = 64 * 1024
#: No longer than gunicorn takes.
LINE = 8000

WHOLE = f"/sync?start=0&end={2**53 - 1}"
KNOWN = f"Authorization: Bearer {TOKEN}"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def make_headers(size: int) -> list[str]:
    """Headers that are kept, of ``size`` characters in all, which JSON makes longer."""
    headers = []
    for number in itertools.count():
        name = f"X-GitHub-{number:03d}"
        length = min(LINE, size - len(name))
        if length <= 0:
            break
        value = '"\\' * (length // 2) + "x" * (length % 2)
        headers.append(f"{name}: {value}")
        size -= len(name) + length
    return headers


@pytest.mark.parametrize("kind", KINDS)
def test_headers_that_are_kept(nodes: Nodes, kind: Kind) -> None:
    """As many as a node takes come to the master whole; one more character is refused."""
    slave = nodes.make_slave("slave", kind, SPAN_S="1", KEEP_HEADERS="x-github-*")
    start(slave)
    assert exchange(slave.port, post(b'{"n":1}', *make_headers(KEPT))).status == 200
    refused = exchange(slave.port, post(b'{"n":2}', *make_headers(KEPT + 20)))
    assert refused.status == 431
    assert f"more than {KEPT}" in refused.detail
    (given,) = exchange_records(slave)
    assert len(given) > KEPT
    master = nodes.make_master({"slave": slave.url}, SPAN_S="1")
    start(master)
    deadline = time.monotonic() + 30
    while not sync(master).body["slaves"][0]["saved"]:  # not before it is a span old
        assert time.monotonic() < deadline
        time.sleep(0.2)
    master.stop()
    slave.stop()
    (kept,), (synced,) = nodes.read(slave), nodes.read(master)
    assert sum(len(name) + len(value) for name, value in kept.meta.headers.items()) == KEPT
    assert synced.meta == kept.meta


def exchange_records(slave: NodeProcess) -> list[bytes]:
    """What a slave answers in JSON to a master that has nothing, by record."""
    answer = exchange(slave.port, ask("POST", WHOLE, KNOWN, body=b"[]"))
    assert answer.status == 200
    reader = ENCODINGS["application/json"].read_records()
    assert len(reader.feed(answer.body)) == 1
    reader.finish()
    return [answer.body]


@pytest.mark.parametrize("kind", KINDS)
def test_more_syncs_than_a_slave_answers(nodes: Nodes, kind: Kind) -> None:
    slave = nodes.make_slave("slave", kind, MAX_SYNCS="3")
    fill(nodes.folder / "slave", [make_record(1, now_ms() - 600_000)])
    start(slave)
    head = ask("POST", WHOLE, KNOWN, framing=("Transfer-Encoding: chunked",))
    whole = ask("POST", WHOLE, KNOWN, body=b"[]")
    with contextlib.ExitStack() as stack:
        open_syncs = [stack.enter_context(connect(slave.port)) for _ in range(3)]
        for connection in open_syncs:
            connection.sendall(head + b"1\r\n[\r\n")
        deadline = time.monotonic() + 30
        while count_syncs(slave) < 3:
            assert time.monotonic() < deadline, "the syncs are not begun"
            time.sleep(0.02)
        refused = exchange(slave.port, whole)
        assert refused.status == 429
        assert "3 syncs are in progress" in refused.detail
        assert int(refused.headers["retry-after"]) > 0
        assert exchange(slave.port, post(b'{"n":2}')).status == 200
        for connection in open_syncs:
            connection.sendall(b"1\r\n]\r\n0\r\n\r\n")
            assert read_answer(connection).status == 200
    while (answer := exchange(slave.port, whole)).status == 429:  # the last one is being closed
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answer.status == 200


def count_syncs(slave: NodeProcess) -> int:
    """Syncs that the slave began to answer."""
    answer = exchange(slave.port, ask("GET", "/metrics", KNOWN))
    found = re.search(rb"^webhook_sync_syncs_answered_total ([0-9]+)", answer.body, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_with_too_many_pairs_in_a_span(nodes: Nodes, kind: Kind) -> None:
    """A request without end is refused, and costs what a million pairs cost, no more."""
    slave = nodes.make_slave("slave", kind)
    begin = now_ms() - 600_000
    fill(nodes.folder / "slave", [make_record(1, begin)])
    start(slave)
    assert exchange(slave.port, post(b'{"n":2}')).status == 200
    head = ask(
        "POST",
        WHOLE,
        KNOWN,
        "Content-Type: application/vnd.msgpack",
        framing=("Transfer-Encoding: chunked",),
    )
    before, _ = measure_resident(slave.pid)
    answer, sent = pour(slave.port, head, make_pairs(begin))
    _, peak = measure_resident(slave.pid)
    print(
        f"{kind}: {answer.status} after {sent / MIB:.1f} MiB of pairs; resident memory "
        f"{before / MIB:.1f} MiB, at most {peak / MIB:.1f} MiB"
    )
    assert answer.status == 413
    assert "1000000 hashes lie within a few spans" in answer.detail
    assert peak - before < 256 * MIB
    assert exchange(slave.port, post(b'{"n":3}')).status == 200


def make_pairs(timestamp: int) -> Iterator[bytes]:
    """Two million pairs of one moment, in chunks."""
    pairs = (Pair(timestamp, 2**32 + number) for number in range(2_000_000))
    for piece in ENCODINGS["application/vnd.msgpack"].encode_pairs(pairs):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
