"""Replays: allowed targets, headers, and the states of a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from portable_core.errors import BadRequest, Forbidden, StoreError
from portable_core.records import Meta, Pair, Record
from portable_core.sources.signatures import parse_sources
from portable_core.webhooks.delivery_request import Outcome, make_headers
from portable_core.webhooks.replay import Replay
from portable_core.webhooks.replay_targets import check_target

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
ALLOWED = (
    "https://shop.example/hooks",
    "http://127.0.0.1:9000",
    "https://sh\u00f6p.example/in",
    "http://[::1]",
)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/hooks",
        "https://shop.example/hooks/",
        "https://shop.example/hooks/a?x=1",
        "https://SHOP.example/hooks",
        "http://127.0.0.1:9000",
        "http://127.0.0.1:9000/any",
        "https://shop.example:443/hooks",
        "https://shop.example/hooks/100%25",
        "https://shop.example/%68ooks/a",
        "https://shop.example/hooks/%C3%A9;v=1/..a/.well-known",
        "https://xn--shp-tna.example/in",
        "http://[0:0:0:0:0:0:0:1]/x",
    ],
)
def test_allowed_targets(url: str) -> None:
    assert check_target(url, ALLOWED) == url
    assert check_target(url, None) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/hooksx",
        "https://shop.example/",
        "https://shop.example.evil.example/hooks",
        "http://shop.example/hooks",
        "https://shop.example:8443/hooks",
        "https://shop.example/hooks/../admin",
        "https://shop.example/hooks/%2e%2E/admin",
        "https://shop.example/hooks/..%2fadmin",
        "https://shop.example/hooks/..\\admin",
        "http://127.0.0.1:9001/",
        "http://127.0.0.1",
        "http://[::1]:9000/",
        "http://2130706433:9000/",
        "https://shop.example/hooks/.",
        "https://shop.example/hooks/..;/admin",
        "https://shop.example/hooks/..;v=1/admin",
        "https://shop.example/hooks/..%3b/admin",
        "https://shop.example/hooks/%252e%252e/admin",
        "https://shop.example/hooks/%2525252e%2525252e/admin",
        "https://shop.example/hooks/%25252525252e%25252525252e/admin",
        "https://shop.example/hooks/..%5cadmin",
        "https://shop.example/hooks/..%255cadmin",
        "https://shop.example/hooks/..%20/admin",
        "https://shop.example/hooks/..%00/admin",
        "https://shop.example/hooks/..%c0%afadmin",
        "https://shop.example/hooks/%c0%ae%c0%ae/admin",
        "https://shop.example/hooks/%ef%bc%8e%ef%bc%8e/admin",
        "https://shop.example/hooks/..%ef%bc%8fadmin",
        "https://shop.example/hooks/.../admin",
        "https://shop.example/hooks/x%3f/../admin",
        "https://shop.example//hooks/a",
        "https://shop.example./hooks/a",
        "https://shop.example/Hooks/a",
    ],
)
def test_other_targets(url: str) -> None:
    with pytest.raises(Forbidden, match="REPLAY_TARGETS"):
        check_target(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example/hooks",
        "file:///etc/passwd",
        "https://shop.example@evil.example/hooks",
        "https://@shop.example/hooks",
        "https://shop.example\\@evil.example/hooks",
        "https://shop.example/hooks\r\nX: y",
        "https://shop.example/a b",
        "https://shop.example:port/",
        "https://shöp.example/",
    ],
)
def test_invalid_targets(url: str) -> None:
    with pytest.raises(BadRequest):
        check_target(url, None)


def test_the_headers_are_the_kept_ones_and_a_new_signature() -> None:
    kept = {
        "content-type": "application/vnd.x+json",
        "webhook-id": "msg_7",
        "webhook-timestamp": "1",
        "webhook-signature": "v1,old",
        "connection": "close",
        "x-note": "line\nbreak",
        "x-tab": "a\tb",
        "x-latin": "M\u00fcller",
        "x-github-event": "push",
    }
    record = Record(Pair(5, 7), b'{"a":1}', Meta("s", kept))
    plain = make_headers(record, "", 1_700_000_000)
    assert plain == {
        name: value for name, value in kept.items() if name not in ("connection", "x-note")
    }
    signed = make_headers(record, SECRET, 1_700_000_000)
    assert (signed["webhook-id"], signed["x-github-event"]) == ("msg_7", "push")
    sources = parse_sources(f"s=standard:{SECRET}")
    sources.verify("s", lambda name: [signed[name.lower()]], record.payload, 1_700_000_000_000)
    bare = make_headers(Record(Pair(5, 7), b"{}"), SECRET, 1)
    assert (bare["webhook-id"], bare["content-type"]) == ("msg_5-7", "application/json")


class Sink:
    """A receiver that rejects payloads that contain ``no``."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.opened: list[str] = []
        self.lock = threading.Lock()

    @contextmanager
    def connect(self, url: str) -> Iterator[Sink]:
        self.opened.append(url)
        yield self

    def post(self, headers: Mapping[str, str], body: bytes, query: str = "") -> Outcome:
        with self.lock:
            self.bodies.append(body)
        return Outcome(503, "Service Unavailable") if b"no" in body else Outcome(200, "OK")


def make_records(count: int) -> list[Record]:
    return [
        Record(Pair(number, number), b'{"n":%d,"x":"%b"}' % (number, b"no" if number % 4 else b""))
        for number in range(count)
    ]


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_run_sends_all_and_counts(parallel: int) -> None:
    sink, records = Sink(), make_records(100)
    results: list[object] = []
    replay = Replay("u", records, sink.connect, lambda: 1, parallel=parallel, report=results.append)
    status = replay.run()
    assert (status.state, status.sent, status.delivered, status.failed) == ("done", 100, 25, 75)
    assert status.by_status == {200: 25, 503: 75}
    assert sorted(sink.bodies) == sorted(record.payload for record in records)
    assert len(results) == 100
    assert {failure.pair for failure in status.failures} == {
        record.pair for record in records if b"no" in record.payload
    }
    if parallel == 1:
        assert sink.bodies == [record.payload for record in records]


def test_a_stopped_run_completes_its_running_requests() -> None:
    sink = Sink()
    replay = Replay("u", make_records(50), sink.connect, lambda: 1)
    replay.report = lambda result: replay.stop() if len(sink.bodies) == 3 else None
    assert (replay.run().state, len(sink.bodies)) == ("stopped", 3)


def test_a_failure_of_the_store_is_the_problem_of_the_run() -> None:
    def records() -> Iterator[Record]:
        yield from make_records(2)
        raise StoreError("the disk is gone")

    status = Replay("u", records(), Sink().connect, lambda: 1).run()
    assert (status.state, status.sent) == ("failed", 2)
    assert "the disk is gone" in status.problem
