"""Square's events as a slave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from square import Square

from portable_core.adapters.providers import paged_events
from portable_core.node import Node
from portable_core.records import Meta, Pair, Record
from tests.support.providers.masters import ago, read, run_master, sync, wait
from tests.support.providers.square import TOKEN, SquareStandIn, refuse, run_square

SEARCH = "POST /v2/events"


@contextmanager
def run() -> Iterator[tuple[SquareStandIn, Node]]:
    with run_square() as stand_in:
        logs = f"log=square:events?source=till&token=env:T&base={stand_in.api.url}"
        more = {"PUBLIC_URL": "https://node.example", "SOURCES": "till=square:secret"}
        with run_master(logs, {"T": TOKEN}, **more) as node:
            yield stand_in, node


def receive(node: Node, payload: bytes, at_ms: int) -> None:
    hash_, meta = node.receiver.identifier.identify(payload, Meta("till"))
    node.receiver.open()
    node.receiver.store.append([Record(Pair(at_ms, hash_), payload, meta)])


def list_numbers(node: Node) -> list[int]:
    records = read(node)
    found = [json.loads(r.payload)["data"]["object"]["customer"]["number"] for r in records]
    return sorted(found)


def test_events_that_the_master_lacks_are_fetched_once() -> None:
    with run() as (stand_in, node):
        for number in range(250):
            payload = stand_in.add(number, ago(50) + number * 37)
            if number % 5:
                receive(node, payload, ago(50) + number * 37 + 900)
        first = sync(node, "log")
        assert (first.error, first.saved) == ("", 50)
        assert list_numbers(node) == [*range(250)]
        assert sum(record.meta.via == "square" for record in read(node)) == 50
        stand_in.api.forget()
        wait(1)
        second = sync(node, "log")
        assert (second.error, second.records_received) == ("", 0)
        assert stand_in.api.forget() == [SEARCH]


def test_a_retry_hours_later_is_recognised() -> None:
    with run() as (stand_in, node):
        receive(node, stand_in.add(1, ago(700)), ago(3))
        assert sync(node, "log").records_received == 0


def test_events_beyond_memory_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_events, "MOST_BYTES", 1000)
    with run() as (stand_in, node):
        for number in range(12):
            stand_in.add(number, ago(30) + number * 400)
        assert sync(node, "log").saved == 12
        assert list_numbers(node) == [*range(12)]


def test_a_failure_is_in_the_report() -> None:
    with run() as (stand_in, node):
        stand_in.api.intercept = lambda request: refuse(403, "FORBIDDEN", "Events are disabled.")
        assert "403: Events are disabled" in sync(node, "log").error


def test_the_stand_in_serves_an_independent_client() -> None:
    with run_square() as stand_in:
        stand_in.add(1, ago(5))
        found = Square(token=TOKEN, base_url=stand_in.api.url).events.search_events(
            limit=10,
            query={
                "filter": {"created_at": {"start_at": "2000-01-01T00:00:00Z", "end_at": "2999"}},
                "sort": {"field": "DEFAULT", "order": "ASC"},
            },
        )
        assert [event.event_id for event in found.events or []] == ["event-000000"]
