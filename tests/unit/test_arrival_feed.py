"""The arrival feed: its lines, its positions, waiting, filters and repeats."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.memory_store import MemoryStore
from portable_core.errors import BadRequest, PositionUnknown, TooManyConsumers
from portable_core.records import Meta, Pair, Record, Recovery, format_id
from portable_core.webhooks.arrivals import (
    NOW,
    REPEAT_BEFORE,
    REPEAT_WEBHOOKS,
    ArrivalFeed,
    FeedQuery,
    encode_arrival,
    format_position,
)

UUID = "01234567-89ab-4cde-8f01-23456789abcd"
BASE = 1_795_000_000_000


def make(
    number: int, key: str = "", source: str = "", event: str = "", payload: bytes = b"{}"
) -> Record:
    headers = {"x-github-event": event} if event else {}
    return Record(Pair(BASE + number, number), payload, Meta(source, headers, key=key))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    store = MemoryStore(UUID)
    store.open("crc32c")
    yield store
    store.close()


@pytest.fixture
def feed(store: MemoryStore) -> ArrivalFeed:
    return ArrivalFeed(store, 2)


def read(feed: ArrivalFeed, after: str = "", **options: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the lines without the closing line, and its position."""
    items = [item for item in feed.read(FeedQuery(after, **options)) if item.kind != "idle"]
    lines = [json.loads(item.line) for item in items]
    assert [item.kind for item in items] == ["webhook"] * (len(items) - 1) + ["end"]
    assert [line["position"] for line in lines] == [item.position for item in items]
    assert lines[-1] == {"end": True, "position": items[-1].position}
    return lines[:-1], items[-1].position


# -- lines -----------------------------------------------------------------------------------------


def test_a_line_has_all_that_a_consumer_needs(store: MemoryStore, feed: ArrivalFeed) -> None:
    headers = {"content-type": "application/json", "x-github-event": "push"}
    meta = Meta("shop", headers, "a=1", key="ab" * 16)
    direct = Record(Pair(BASE, 7), b'{"a":1}', meta)
    recovered = Record(Pair(BASE - 9, 8), b'{"a":2}', Meta(), Recovery("slave-1", BASE))
    store.append([direct])
    store.append([recovered])
    (first, second), _ = read(feed)
    assert first.pop("position") != second.pop("position")
    assert first == {
        "id": f"{BASE}-7",
        "key": "ab" * 16,
        "repeat": False,
        "source": "shop",
        "event": "push",
        "timestamp": BASE,
        "came": "direct",
        "headers": headers,
        "query": "a=1",
        "data": {"a": 1},
    }
    assert second == {
        "id": f"{BASE - 9}-8",
        "key": None,
        "repeat": False,
        "source": "",
        "event": None,
        "timestamp": BASE - 9,
        "came": "slave-1",
        "headers": {},
        "query": "",
        "data": {"a": 2},
    }


@pytest.mark.parametrize(
    ("payload", "has_data", "has_raw"),
    [
        (b'{"a":1}', True, False),
        (b'{"a":12.0}', True, True),
        (b'{"a":12345678901234567890123}', True, True),
        (b'{"a":1,"a":2}', True, True),
        (b'{"a":-0.0,\r\n "b":[1.5,null]}', True, True),
        (b'[1,2,{"a":12.0}]', True, True),
        (b'{"a":"\\ud800"}', False, True),
        (b'{"a":' + b"9" * 5000 + b"}", False, True),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", False, True),
        (b'{"a":NaN}', False, True),
        (b'{"a":"\xff"}', False, True),
        (b"a=1&b=2", False, True),
        (b"<xml/>", False, True),
        (b"{", False, True),
        (b"", False, True),
        (b"\xef\xbb\xbf{}", False, True),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_data_is_there_whenever_the_payload_is_json(
    payload: bytes, has_data: bool, has_raw: bool
) -> None:
    line = encode_arrival("p", make(1, payload=payload), repeat=False)
    assert b"\n" not in line
    assert b"\r" not in line
    parsed = json.loads(line)
    assert ("data" in parsed, "raw" in parsed) == (has_data, has_raw)
    if has_data:
        assert parsed["data"] == json.loads(payload)
    if has_raw:
        assert base64.b64decode(parsed["raw"]) == payload


def test_raw_replaces_data_when_it_is_requested(store: MemoryStore, feed: ArrivalFeed) -> None:
    store.append([make(1, payload=b'{ "a": 1 }')])
    ((line,), _) = read(feed, raw=True)
    assert "data" not in line
    assert base64.b64decode(line["raw"]) == b'{ "a": 1 }'


# -- positions -------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=8), st.data())
def test_a_consumer_gets_every_webhook_once_in_order(
    batches: list[list[int]], data: st.DataObject
) -> None:
    """It stops anywhere and continues from the line or the closing line that it read last."""
    store = MemoryStore(UUID)
    store.open("crc32c")
    feed = ArrivalFeed(store, 1)
    appended: list[str] = []
    got: list[str] = []
    position = ""
    for batch in [*batches, []]:
        new = {make(number).pair: make(number) for number in batch}
        appended += [i for i in map(format_id, new) if i not in appended]
        store.append(list(new.values()))
        limit = data.draw(st.none() | st.integers(1, 3))
        lines, end = read(feed, position, limit=limit)
        kept = data.draw(st.integers(0, len(lines)))
        got += [line["id"] for line in lines[:kept]]
        position = end if kept == len(lines) else lines[kept - 1]["position"] if kept else position
    got += [line["id"] for line in read(feed, position)[0]]
    assert got == appended


def test_now_is_after_all_that_is_there(store: MemoryStore, feed: ArrivalFeed) -> None:
    store.append([make(1)])
    lines, position = read(feed, NOW)
    assert lines == []
    store.append([make(0)])
    assert [line["timestamp"] for line in read(feed, position)[0]] == [BASE]


def test_the_beginning_of_an_empty_store_is_a_position(
    store: MemoryStore, feed: ArrivalFeed
) -> None:
    _, position = read(feed)
    store.append([make(1)])
    assert len(read(feed, position)[0]) == 1


def test_a_position_of_another_store_is_named(store: MemoryStore, feed: ArrivalFeed) -> None:
    store.append([make(1)])
    with pytest.raises(PositionUnknown, match="another store") as caught:
        read(feed, format_position(UUID.replace("0", "1"), "1"))
    assert len(read(feed, caught.value.resume)[0]) == 1


@pytest.mark.parametrize("text", ["1", "x", "2." + "0" * 32 + ".1", f"1.{UUID}.1", "1." + "0" * 32])
def test_other_text_is_rejected(feed: ArrivalFeed, text: str) -> None:
    with pytest.raises(BadRequest):
        read(feed, text)


# -- filters and repeats ---------------------------------------------------------------------------


def test_filters_pass_what_matches_and_the_position_moves_on(
    store: MemoryStore, feed: ArrivalFeed
) -> None:
    store.append([make(1, source="a", event="x"), make(2, source="b"), make(3, event="x")])
    store.append([make(n) for n in range(10, 20)])
    assert [line["timestamp"] - BASE for line in read(feed, source="a")[0]] == [1]
    assert [line["timestamp"] - BASE for line in read(feed, event="x")[0]] == [1, 3]
    assert len(read(feed, source="")[0]) == 11
    _, position = read(feed, source="b")
    assert read(feed, position)[0] == []


def test_a_key_that_came_before_is_a_repeat(store: MemoryStore, feed: ArrivalFeed) -> None:
    store.append([make(1, "k1"), make(2, "k2"), make(3, "k1")])
    lines, position = read(feed)
    assert [line["repeat"] for line in lines] == [False, False, True]
    store.append([make(4, "k2"), make(5, "k3"), make(6), make(7)])
    again, end = read(feed, position)
    assert [line["repeat"] for line in again] == [True, False, False, False]
    assert [line["repeat"] for line in read(feed, position)[0]] == [True, False, False, False]
    assert [line["repeat"] for line in read(feed)[0]][:3] == [False, False, True]
    assert read(feed, end) == ([], end)


def test_a_run_that_begins_anywhere_knows_the_keys_before_it(store: MemoryStore) -> None:
    store.append([make(n, f"k{n}") for n in range(REPEAT_BEFORE + 10)])
    _, position = read(ArrivalFeed(store, 1))
    store.append([make(n + 9000, f"k{n}") for n in (5, REPEAT_BEFORE + 5, REPEAT_BEFORE + 10)])
    restarted = ArrivalFeed(store, 1)
    assert [line["repeat"] for line in read(restarted, position)[0]] == [False, True, False]
    middle = read(restarted, limit=100)[0][50]["position"]
    assert not any(line["repeat"] for line in read(ArrivalFeed(store, 1), middle, limit=50)[0])


def test_what_was_removed_hides_no_first_webhook(store: MemoryStore) -> None:
    store.append([make(1, "k1")])
    _, position = read(ArrivalFeed(store, 1))
    store.append([make(2, "k2"), make(3, "k2")])
    store.prune(BASE + 2)
    assert [line["repeat"] for line in read(ArrivalFeed(store, 1), position)[0]] == [False, True]


def test_a_repeat_counts_though_a_filter_left_its_first_out(
    store: MemoryStore, feed: ArrivalFeed
) -> None:
    store.append([make(1, "k1", "a"), make(2, "k1", "b")])
    assert [line["repeat"] for line in read(feed, source="b")[0]] == [True]


def test_the_horizon_of_repeats_is_bounded(store: MemoryStore, feed: ArrivalFeed) -> None:
    store.append([make(0, "first")])
    store.append([make(n, str(n)) for n in range(1, REPEAT_WEBHOOKS + 1)])
    store.append([make(REPEAT_WEBHOOKS + 1, "first"), make(REPEAT_WEBHOOKS + 2, "9")])
    assert [line["repeat"] for line in read(feed)[0]][-2:] == [False, True]


# -- waiting ---------------------------------------------------------------------------------------


def test_a_waiting_request_gets_the_next_webhook_at_once(
    store: MemoryStore, feed: ArrivalFeed
) -> None:
    _, position = read(feed)
    appended = threading.Timer(0.2, lambda: store.append([make(1)]))
    appended.start()
    started = time.monotonic()
    lines, _ = read(feed, position, wait_s=20.0)
    assert len(lines) == 1
    assert time.monotonic() - started < 10
    appended.join()


def test_a_request_waits_on_while_nothing_matches(store: MemoryStore, feed: ArrivalFeed) -> None:
    timers = [
        threading.Timer(0.1 * n, lambda n=n: store.append([make(n, source="ab"[n == 3])]))
        for n in (1, 2, 3)
    ]
    for timer in timers:
        timer.start()
    lines, _ = read(feed, source="b", wait_s=20.0)
    assert [line["timestamp"] - BASE for line in lines] == [3]


def test_a_request_ends_after_its_wait(feed: ArrivalFeed) -> None:
    started = time.monotonic()
    assert read(feed, wait_s=0.3)[0] == []
    assert 0.3 <= time.monotonic() - started < 10


def test_a_stop_ends_a_request_with_its_closing_line(feed: ArrivalFeed) -> None:
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    started = time.monotonic()
    items = list(feed.read(FeedQuery(wait_s=60.0), stopped.is_set))
    assert items[-1].kind == "end"
    assert time.monotonic() - started < 30


def test_following_continues_until_the_wait_has_passed(
    store: MemoryStore, feed: ArrivalFeed
) -> None:
    store.append([make(1)])
    threading.Timer(0.2, lambda: store.append([make(2)])).start()
    lines, _ = read(feed, wait_s=1.0, follow=True)
    assert len(lines) == 2
    assert len(read(feed, wait_s=20.0, follow=True, limit=2)[0]) == 2


def test_waiting_requests_are_bounded(store: MemoryStore) -> None:
    feed = ArrivalFeed(store, 1)
    waiting = feed.read(FeedQuery(wait_s=60.0))
    assert next(waiting).kind == "idle"
    assert feed.waiting == 1
    with pytest.raises(TooManyConsumers):
        read(feed, wait_s=1.0)
    assert read(feed)[0] == []
    waiting.close()
    assert feed.waiting == 0
    assert read(feed, wait_s=0.1)[0] == []
