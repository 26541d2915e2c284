"""Pages of webhooks: each webhook once, newest first, for every search, with bounded work."""

from __future__ import annotations

import random

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.errors import BadRequest, NotFound
from portable_core.payload_hash.identity import EVENT_HEADERS
from portable_core.ports import Store
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery, format_id, parse_id
from portable_core.webhooks.names import _EVENT_HEADERS, find_event
from portable_core.webhooks.search import Effort, Finder, Page, Search, find_record

KEYS = ("", "a" * 32, "b" * 32)


def make_record(
    timestamp: int, hash_: int, source: str = "", payload: bytes = b"{}", key: str = ""
) -> Record:
    meta = Meta(source, {"x-github-event": "push"}, key=key)
    return Record(Pair(timestamp, hash_), payload, meta)


def fill(records: list[Record]) -> MemoryStore:
    store = MemoryStore()
    store.open("crc32c")
    store.append(records)
    return store


def read_all(store: Store, search: Search, limit: int, effort: Effort | None = None) -> list[Page]:
    """Return every page, to the last one."""
    pages = [Finder(store).read_page(search, None, limit, effort)]
    while (before := pages[-1].before) is not None:
        pages.append(Finder(store).read_page(search, before, limit, effort))
    return pages


def list_pairs(pages: list[Page]) -> list[Pair]:
    return [row.pair for page in pages for row in page.rows]


@pytest.mark.parametrize("seed", range(20))
def test_the_pages_have_each_match_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    # Few timestamps, so that many share one.
    records = [
        make_record(
            rng.randrange(20), rng.randrange(6), rng.choice(("a", "b", "")), key=rng.choice(KEYS)
        )
        for _ in range(rng.randrange(120))
    ]
    store = fill(records)
    held = [find_record(store, pair) for pair in sorted({record.pair for record in records})]
    start, end = sorted((rng.randrange(22), rng.randrange(22)))
    searches = [
        Search(),
        Search(start, end),
        Search(hash=3),
        Search(start, end, source="a"),
        Search(source="", hash=2),
        Search(key=KEYS[1]),
        Search(start, end, key=KEYS[2], hash=3),
    ]
    for search in searches:
        expected = [
            record.pair
            for record in reversed(held)
            if search.start <= record.pair.timestamp < search.end
            and search.hash in (None, record.pair.hash)
            and search.source in (None, record.meta.source)
            and search.key in ("", record.meta.key)
        ]
        for effort in (None, Effort(pairs=1, records=1)):
            pages = read_all(store, search, rng.randrange(1, 9), effort)
            assert list_pairs(pages) == expected


def test_a_page_reads_only_the_pairs_that_it_shows() -> None:
    store = fill([make_record(time, 1) for time in range(10_000)])
    assert Finder(store).read_page(Search(), limit=50).looked_at == 51
    assert Finder(store).read_page(Search(), Pair(5000, 1), limit=50).rows[0].pair == Pair(4999, 1)


def test_a_search_without_a_match_stops_and_has_a_position() -> None:
    store = fill([make_record(time, 1) for time in range(3000)])
    page = Finder(store).read_page(Search(value="nowhere"), effort=Effort(records=500))
    assert (page.rows, page.complete) == ((), False)
    assert page.before is not None
    assert 500 <= page.looked_at < 1000
    last = read_all(store, Search(value="nowhere"), 50, Effort(records=500))[-1]
    assert (last.before, last.complete) == (None, True)


def test_a_search_stops_after_a_number_of_bytes() -> None:
    big = b'{"x":"%b"}' % (b"y" * 10_000)
    store = fill([make_record(time, 1, payload=big) for time in range(2000)])
    page = Finder(store).read_page(Search(value="z"), effort=Effort(bytes=1_000_000))
    assert page.looked_at < 600
    assert not page.complete


def test_a_search_by_header_and_by_value() -> None:
    record = Record(
        Pair(5, 7),
        b'{"a":"x-y"}',
        Meta("s", {"x-github-event": "push", "webhook-id": "msg_1"}),
        Recovery("slave-1", 9),
    )
    store = fill([record, make_record(6, 8)])
    for search in (Search(id="msg_1"), Search(value="x-y"), Search(id="msg_1", value="-")):
        (row,) = Finder(store).read_page(search).rows
        assert (row.id, row.event, row.recovery) == ("5-7", "push", Recovery("slave-1", 9))
    assert Finder(store).read_page(Search(id="msg_")).rows == ()


def test_a_search_for_key_and_hash_reads_only_records_with_the_hash() -> None:
    store = fill([make_record(time, time % 100, key=KEYS[time % 3]) for time in range(10_000)])
    page = Finder(store).read_page(Search(hash=7, key=KEYS[1]), limit=500)
    assert [row.pair.timestamp for row in page.rows] == list(range(9907, 0, -300))
    assert (page.looked_at, page.before) == (100, None)


def test_a_webhook_is_found_by_its_id_if_the_rest_of_the_search_matches() -> None:
    record = make_record(5, 7, "shop", key=KEYS[1])
    store = fill([record, make_record(6, 8)])
    for search in (Search(id="5-7"), Search(5, 6, "shop", 7, KEYS[1], "5-7", "")):
        assert Finder(store).find_by_id(search) == record
    for search in (
        *(Search(id=text) for text in ("", "push", "5-8")),
        Search(start=6, id="5-7"),
        Search(end=5, id="5-7"),
        Search(source="", id="5-7"),
        Search(hash=8, id="5-7"),
        Search(key=KEYS[2], id="5-7"),
        Search(value="x", id="5-7"),
    ):
        assert Finder(store).find_by_id(search) is None


@pytest.mark.parametrize("name", sorted(set(_EVENT_HEADERS)))
def test_every_header_that_names_an_event_is_always_kept(name: str) -> None:
    assert name in EVENT_HEADERS
    assert find_event(Meta(headers={name: "order.paid"})) == "order.paid"


def test_ids() -> None:
    pair = Pair(1_700_000_000_000, 4_294_967_295)
    assert parse_id(format_id(pair)) == pair
    for text in ("", "1", "1-", "-1", "1-2-3", "a-1", f"{MAX_INTEGER + 1}-1", "1- 1", "١-1"):
        with pytest.raises(BadRequest):
            parse_id(text)
    with pytest.raises(NotFound):
        find_record(fill([]), pair)
