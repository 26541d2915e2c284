"""Searches by the index of a SQLite store find what a search of all records finds."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.index_entries import OTHERS
from portable_core.adapters.sqlite.index_files import FOLDER
from portable_core.adapters.sqlite.search_index import SqliteSearchIndex
from portable_core.ports import Tombstone
from portable_core.records import MAX_INTEGER, Meta, Pair, Record, Recovery
from portable_core.webhooks.names import Names
from portable_core.webhooks.search import Effort, Finder, Search
from portable_core.webhooks.terms import Terms
from tests.support.stores.samples import HOUR, NOON

TERMS = Terms(Names())
KEYS = ["", *(f"{number:032x}" for number in range(40))]
SOURCES = ("", "github", "shop")
EVENTS = ("push", "ping", "")


def make(rng: random.Random, timestamp: int) -> Record:
    event = rng.choice(EVENTS)
    headers = {"x-github-event": event} if event else {}
    headers["x-github-delivery"] = f"delivery-{rng.randrange(60)}"
    headers["x-hub-signature-256"] = "sha256=00"
    recovery = rng.choice((None, None, Recovery("one", 5), Recovery("two", 6)))
    meta = Meta(rng.choice(SOURCES), headers, key=rng.choice(KEYS))
    return Record(Pair(timestamp, rng.randrange(2**32)), b'{"n":%d}' % timestamp, meta, recovery)


def open_store(path: Path, version: int = TERMS.version) -> SqliteStore:
    store = SqliteStore(path, file_bytes=40_000)
    store.index_by(TERMS.list, version)
    store.open("crc32c")
    return store


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores whose background does nothing: a test indexes when it wants to."""
    monkeypatch.setattr(SqliteSearchIndex, "work", lambda index, rest: 60.0)


def do_some_work(store: SqliteStore, steps: int) -> None:
    index = store._index
    assert index is not None
    for _ in range(steps):
        file = index._choose(time.monotonic())
        if file is None:
            return
        index._advance(file, lambda seconds: None)


def make_searches(rng: random.Random) -> list[Search]:
    start, end = sorted(NOON + rng.randrange(-HOUR, 3 * HOUR) for _ in range(2))
    delivery = f"delivery-{rng.randrange(70)}"
    return [
        Search(event="push"),
        Search(id=delivery),
        Search(start, end, id=delivery, source="shop"),
        Search(key=KEYS[rng.randrange(1, 40)]),
        Search(source="github", event="ping", recovered=True),
        Search(start, end, recovered=False),
        Search(slave="two", event="push", source=""),
        Search(slave="three"),
        Search(start, end, source="shop", value=str(NOON)[:6]),
        Search(id="sha256=00"),
    ]


def check(finder: Finder, searches: list[Search], limit: int) -> None:
    plain = Finder(finder.store)
    for search in searches:
        pages, before = [], None
        while True:
            pages.append(finder.read_page(search, before, limit, Effort(records=150)))
            before = pages[-1].before
            if before is None:
                break
        found = [row.pair for page in pages for row in page.rows]
        everything = Effort(pairs=10**6, records=10**6)
        expected = plain.read_page(search, None, 10**6, everything).rows
        assert found == [row.pair for row in expected], search


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("seed", range(6))
def test_the_index_finds_what_a_scan_finds(seed: int, tmp_path: Path) -> None:
    """Also while it is behind, after a restart, and after index files were lost or damaged."""
    rng = random.Random(seed)
    store = open_store(tmp_path)
    for _ in range(8):
        records = [make(rng, NOON + rng.randrange(2 * HOUR)) for _ in range(rng.randrange(80))]
        store.append(records)
        do_some_work(store, rng.randrange(6))
        action = rng.randrange(5)
        if action == 0:
            store.close()
            version = TERMS.version + rng.randrange(2)
            store = open_store(tmp_path, version)
        for path in (tmp_path / FOLDER).glob("*"):
            if action == 1 and rng.random() < 0.5:
                path.unlink()
            elif action == 2 and rng.random() < 0.5:
                path.write_bytes(path.read_bytes()[: rng.randrange(200)])
        if action == 3:
            store.finish_index()
        check(Finder(store, Names(), store), rng.sample(make_searches(rng), 3), rng.choice((3, 50)))
    store.finish_index()
    check(Finder(store, Names(), store), make_searches(rng), 50)
    store.close()


@pytest.mark.usefixtures("paused")
def test_an_indexed_search_reads_only_what_it_finds(tmp_path: Path) -> None:
    rng = random.Random(7)
    store = open_store(tmp_path)
    wanted = "d0e1"
    records = [make(rng, NOON + number * 500) for number in range(2000)]
    headers = {**records[700].meta.headers, "x-github-delivery": wanted}
    records[700] = Record(records[700].pair, b"{}", Meta("shop", headers))
    for begin in range(0, 2000, 100):
        store.append(records[begin : begin + 100])
    finder = Finder(store, Names(), store)
    assert finder.read_page(Search(id=wanted), effort=Effort(records=10**6)).looked_at == 2000
    store.finish_index()
    page = finder.read_page(Search(id=wanted))
    assert [row.pair for row in page.rows] == [records[700].pair]
    assert (page.looked_at, page.complete, page.before) == (1, True, None)
    assert finder.read_page(Search(id="absent")).looked_at == 0
    store.close()


@pytest.mark.usefixtures("paused")
def test_index_files_are_of_closed_files_and_go_with_them(tmp_path: Path) -> None:
    rng = random.Random(8)
    store = open_store(tmp_path)
    store.append([make(rng, NOON)])
    store.append([make(rng, NOON + HOUR)])
    store.append([make(rng, NOON + 2 * HOUR)])  # closes the others
    store.append([make(rng, NOON + 2 * HOUR)])
    store.finish_index()
    data = sorted(path.stem for path in tmp_path.glob("*.?.sqlite3"))
    assert sorted(path.stem for path in (tmp_path / FOLDER).iterdir()) == data[:-1]
    store.prune(NOON + HOUR)
    store.finish_index()
    assert sorted(path.stem for path in (tmp_path / FOLDER).iterdir()) == data[1:-1]
    store.close()


@pytest.mark.usefixtures("paused")
def test_retention_by_bytes_counts_the_index(tmp_path: Path) -> None:
    rng = random.Random(8)
    store = open_store(tmp_path)
    for hour in (0, 0, 1, 1, 2, 2, 3, 3):
        store.append([make(rng, NOON + hour * HOUR + n) for n in range(20)])
    data = store.status().bytes
    assert data is not None
    assert store.find_size_cut(data, MAX_INTEGER) == 0
    store.finish_index()
    index = {path.stem: path.stat().st_size for path in (tmp_path / FOLDER).iterdir()}
    assert len(index) == 3
    assert store.status().bytes == data + sum(index.values())
    begin = NOON // HOUR * HOUR
    assert store.find_size_cut(data + sum(index.values()), MAX_INTEGER) == 0
    assert store.find_size_cut(data, MAX_INTEGER) == begin + HOUR
    store.prune_to_size(data)
    assert next(store.pairs(0, MAX_INTEGER)).timestamp >= begin + HOUR
    assert {path.stem for path in (tmp_path / FOLDER).iterdir()} == {*sorted(index)[1:]}
    assert (store.status().bytes or 0) <= data
    store.close()


@pytest.mark.usefixtures("paused")
def test_an_index_file_of_another_file_is_not_used(tmp_path: Path) -> None:
    rng = random.Random(9)
    for name in ("one", "two"):
        store = open_store(tmp_path / name)
        store.append([make(rng, NOON + number) for number in range(50)])
        store.append([make(rng, NOON + 9 * HOUR)])
        store.append([make(rng, NOON + 9 * HOUR)])
        store.finish_index()
        store.close()
    (path,) = (tmp_path / "one" / FOLDER).iterdir()
    os.replace(path, tmp_path / "two" / FOLDER / path.name)
    store = open_store(tmp_path / "two")
    check(Finder(store, Names(), store), make_searches(rng), 50)
    store.close()


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("indexed_first", [True, False])
def test_an_erased_webhook_is_not_found(tmp_path: Path, indexed_first: bool) -> None:
    store = open_store(tmp_path)
    meta = Meta("shop", {"x-github-delivery": "d1"}, key=KEYS[1])
    pairs = [Pair(NOON, 1), Pair(NOON + 1, 2)]
    store.append([Record(pair, b"{}", meta) for pair in pairs])
    if indexed_first:
        store.finish_index()
    store.erase([Tombstone(pairs[1], KEYS[1], 5)])
    finder = Finder(store, Names(), store)
    for _ in range(2):
        found = finder.read_page(Search(id="d1", key=KEYS[1])).rows
        assert [row.pair for row in found] == pairs[:1]
        store.finish_index()
    store.close()


def test_the_background_indexes_by_itself(tmp_path: Path) -> None:
    rng = random.Random(10)
    store = open_store(tmp_path)
    store.append([make(rng, NOON + number) for number in range(300)])
    finder = Finder(store, Names(), store)
    until = time.monotonic() + 20
    while finder.read_page(Search(id="absent")).looked_at:
        assert time.monotonic() < until
        time.sleep(0.02)
    store.close()


@pytest.mark.usefixtures("paused")
def test_volumes_are_the_counts_by_hour_and_source(tmp_path: Path) -> None:
    rng = random.Random(11)
    store = open_store(tmp_path)
    records = [make(rng, NOON + rng.randrange(3 * HOUR)) for _ in range(300)]
    store.append(records[:200])
    store.finish_index()
    store.append(records[200:])
    store.finish_index()
    expected = Counter(
        (record.pair.timestamp // HOUR * HOUR, record.meta.source, record.recovery is not None)
        for record in records
    )
    found = Counter(
        {
            (hour, source, recovered): count
            for hour, sources in store.volumes(0, NOON * 2).items()
            for source, volume in sources.items()
            for recovered, count in ((False, volume.direct), (True, volume.recovered))
        }
    )
    assert +found == expected
    junk = [
        Record(Pair(NOON + 9 * HOUR, number), b"{}", Meta(f"junk-{number}"))
        for number in range(500)
    ]
    store.append(junk)
    store.finish_index()
    (volumes,) = store.volumes(NOON + 9 * HOUR, NOON + 10 * HOUR).values()
    assert len(volumes) <= 201
    assert volumes[OTHERS].direct == 500 - len(volumes) + 1
    store.close()
