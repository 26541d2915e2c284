"""Stripe's events as a slave: against a stand-in that knows deliveries, and against localstripe."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import stripe

from portable_core.adapters.providers import paged_events
from portable_core.node import Node
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.wiring import build_node
from tests.support.providers.masters import ago, read, run_master, sync, wait
from tests.support.providers.stripe import KEY, StripeStandIn, refuse, run_stripe

LIST = "GET /v1/events"


@contextmanager
def run(options: str = "") -> Iterator[tuple[StripeStandIn, Node]]:
    with run_stripe() as stand_in:
        logs = f"log=stripe:events?source=pay&token=env:T&base={stand_in.api.url}{options}"
        with run_master(logs, {"T": KEY}, SOURCES="pay=stripe:whsec_x") as node:
            yield stand_in, node


def receive(node: Node, payload: bytes, at_ms: int) -> None:
    hash_, meta = node.receiver.identifier.identify(payload, Meta("pay"))
    node.receiver.open()
    node.receiver.store.append([Record(Pair(at_ms, hash_), payload, meta)])


def list_numbers(node: Node) -> list[int]:
    return [json.loads(record.payload)["data"]["object"]["number"] for record in read(node)]


def test_undelivered_events_are_fetched_once() -> None:
    with run() as (stand_in, node):
        for number in range(250):
            stand_in.add(number, ago(60) + number * 1000, delivered=number % 5 > 0)
        first = sync(node, "log")
        assert (first.error, first.saved) == ("", 50)
        assert list_numbers(node) == [*range(0, 250, 5)]
        assert {record.meta.via for record in read(node)} == {"stripe"}
        assert set(stand_in.api.forget()) == {LIST}
        wait(1)
        second = sync(node, "log")
        assert (second.error, second.saved, second.records_received) == ("", 0, 0)
        assert stand_in.api.forget() == [LIST]


def test_what_a_node_has_is_recognised_by_the_preset() -> None:
    with run("&read=all") as (stand_in, node):
        receive(node, stand_in.add(1, ago(50), delivered=True), ago(50) + 800)
        receive(node, stand_in.add(2, ago(400)), ago(20))  # a retry hours later
        lost = stand_in.add(3, ago(40), delivered=True)
        assert sync(node, "log").saved == 1
        assert list_numbers(node)[1] == 3
        receive(node, lost, ago(0))  # sent again
        keys = [record.meta.key for record in read(node)]
        assert len(keys) == 4
        assert len({*keys}) == 3


def test_an_endpoint_with_another_version_is_recognised_by_the_id() -> None:
    with run() as (stand_in, node):
        body = json.loads(stand_in.add(1, ago(50)))
        body["api_version"], body["data"]["object"]["extra"] = "2017-08-15", None
        receive(node, json.dumps(body).encode(), ago(50) + 30_000)
        assert sync(node, "log").saved == 0


def test_pages_larger_than_memory_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_events, "MOST_BYTES", 2000)
    with run() as (stand_in, node):
        for number in range(20):
            stand_in.add(number, ago(30) + number * 1000)
        assert sync(node, "log").saved == 20
        assert list_numbers(node) == [*range(20)]
        assert any(path.startswith(f"{LIST}/evt_") for path in stand_in.api.forget())


def test_many_events_need_several_responses() -> None:
    with run() as (stand_in, node):
        for number in range(150):
            stand_in.add(number, ago(30) + number // 10 * 1000)
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 150)
        assert report.windows > 2
        assert sorted(list_numbers(node)) == [*range(150)]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [(401, "Invalid API Key", "LogRefused"), (500, "An error", "LogRefused")],
)
def test_a_failure_is_in_the_report(status: int, message: str, kind: str) -> None:
    with run() as (stand_in, node):
        stand_in.add(1, ago(30))
        stand_in.api.intercept = lambda request: refuse(status, message)
        report = sync(node, "log")
        assert report.error_type == kind
        assert f"{status}: {message}" in report.error
        stand_in.api.intercept = lambda request: None
        assert sync(node, "log").saved == 1


def test_a_connected_account_is_named() -> None:
    with run("&account=acct_1") as (stand_in, node):
        assert sync(node, "log").error == ""
        assert {r.headers["stripe-account"] for r in stand_in.api.requests} == {"acct_1"}


def test_the_stand_in_serves_an_independent_client() -> None:
    with run_stripe() as stand_in:
        for number in range(120):
            stand_in.add(number, ago(30) + number, delivered=number % 2 == 0)
        client = stripe.StripeClient(KEY, base_addresses={"api": stand_in.api.url})
        found = client.v1.events.list({"delivery_success": False, "limit": 50})
        assert len([*found.auto_paging_iter()]) == 60


@contextmanager
def run_localstripe() -> Iterator[str]:
    """The address of a fresh localstripe."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_events_of_localstripe_are_fetched_once() -> None:
    with run_localstripe() as url:
        for number in range(50):
            form = urllib.parse.urlencode({"email": f"{number}@shop.example"}).encode()
            request = urllib.request.Request(f"{url}/v1/customers", form)
            request.add_header("Authorization", "Bearer sk_test_12345")
            urllib.request.urlopen(request, timeout=20).close()
        more = "&read=all&delay=0"
        env = {
            "STORE": "memory:",
            "SYNC_AUTH": "none",
            "SPAN_S": "1",
            "T": "sk_test_12345",
            "SOURCES": "pay=stripe:whsec_x",
            "PROVIDER_LOGS": f"log=stripe:events?base={url}&source=pay&token=env:T{more}",
        }
        time.sleep(2.2)  # a span, and a second of Stripe's times
        node = build_node(Settings.from_env("master", env))
        try:
            report = sync(node, "log")
            assert (report.error, report.saved) == ("", 50)
            assert sync(node, "log").saved == 0
            records = list(node.receiver.store.records(0, MAX_INTEGER))
            emails = [json.loads(r.payload)["data"]["object"]["email"] for r in records]
            assert sorted(emails) == sorted(f"{number}@shop.example" for number in range(50))
        finally:
            node.close()
