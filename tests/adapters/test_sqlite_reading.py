"""Scans: over several files of one hour, without payloads, in little memory and few files."""

from __future__ import annotations

import os
import random
import shutil
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.reader import Reader, parse_keys
from portable_core.adapters.sqlite.scanner import merge_batches
from portable_core.records import MAX_INTEGER, Pair, Record, format_sort_key, parse_sort_key
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    ALL,
    fill,
    list_data_files,
    list_pairs,
    opened,
)

integers = st.integers(0, MAX_INTEGER)


@given(st.lists(st.builds(Pair, integers, integers)))
def test_many_keys_are_parsed_like_one(pairs: list[Pair]) -> None:
    keys = [format_sort_key(pair).encode() for pair in pairs]
    parsed = list(parse_keys(keys))
    assert parsed == [parse_sort_key(key.decode()) for key in keys] == pairs
    assert all(type(pair) is Pair for pair in parsed)


@pytest.mark.parametrize("key", [b"", b"0" * 27, b"0" * 30, b"g" * 28, b" " * 28, b"0" * 27 + b" "])
def test_an_invalid_key_is_rejected(key: bytes) -> None:
    good = format_sort_key(Pair(1, 2)).encode()
    with pytest.raises(ValueError):  # noqa: PT011 -- the texts are those of the library
        list(parse_keys([good, key]))


ordered = st.sets(st.binary(min_size=1, max_size=2)).map(sorted)


@given(st.lists(ordered, max_size=5), st.integers(1, 4))
def test_merged_scans_are_one_sorted_set(scans: list[list[bytes]], size: int) -> None:
    begun: list[bytes] = []

    def scan(keys: list[bytes]) -> Iterator[list[bytes]]:
        begun.append(keys[0])
        for at in range(0, len(keys), size):
            yield keys[at : at + size]

    inputs = sorted((keys[0], keys) for keys in scans if keys)
    merged = []
    for batch in merge_batches([(first, scan(keys)) for first, keys in inputs]):
        assert batch
        merged += batch
        # nothing is begun before it is needed
        assert all(first <= batch[-1] or first == min(begun) for first in begun)
    assert merged == sorted(set().union(*scans))


# -- several files of one hour ---------------------------------------------------------------------


def split_hour(folder: Path, seed: int) -> list[Record]:
    """Fill a folder whose one hour has several files that overlap in every way."""
    choice = random.Random(seed)
    records = make_records(400)
    store = SqliteStore(folder, file_bytes=1)  # each append begins a file
    store.open(ALGORITHM)
    store.append(records[:100])
    store.append(records[100:200])
    for _ in range(4):
        store.append(choice.sample(records, 60))
    store.append(records[300:])
    store.append(records)
    store.close()
    return records


def test_a_pair_in_several_files_counts_once(tmp_path: Path) -> None:
    records = split_hour(tmp_path, 1)
    assert len(list_data_files(tmp_path)) == 8
    with opened(tmp_path) as store:
        assert list(store.pairs(*ALL)) == list_pairs(records)
        assert list(store.records(*ALL)) == records
        assert list(store.fetch(list_pairs(records[::-1]))) == records[::-1]
        assert store.latest(NOON + HOUR, 150) == list_pairs(records)[:-151:-1]
        window = (NOON + 555, NOON + 2222)
        assert list(store.pairs(*window)) == [
            pair for pair in list_pairs(records) if window[0] <= pair.timestamp < window[1]
        ]
        assert (store.first(), store.last()) == (NOON, records[-1].pair.timestamp)


def test_damage_of_one_of_several_files(tmp_path: Path) -> None:
    records = split_hour(tmp_path, 2)
    files = list_data_files(tmp_path)
    files[0].write_bytes(b"no database")
    files[3].unlink()
    with opened(tmp_path) as store:
        assert list(store.records(*ALL)) == records  # the last file has them all
        files[7].unlink()
        left = list(store.pairs(*ALL))
        assert left == sorted(set(left))
        assert set(list_pairs(records[300:])) <= set(left) < set(list_pairs(records))
        assert len(store.status().damaged) == 3


def test_more_than_ten_files_of_one_hour(tmp_path: Path) -> None:
    records = make_records(30)
    store = SqliteStore(tmp_path, file_bytes=1)
    store.open(ALGORITHM)
    for record in records[::-1]:
        store.append([record])
    assert len(list_data_files(tmp_path)) == 30
    assert list(store.records(*ALL)) == records
    store.close()
    with opened(tmp_path) as again:
        assert list(again.records(*ALL)) == records


# -- what a scan costs -----------------------------------------------------------------------------


def test_a_scan_of_pairs_reads_no_payload(tmp_path: Path) -> None:
    """Every page but the schema's and the keys' is overwritten: the pairs still come."""
    noise = random.Random(3)
    records = [make_record(NOON + i, i, noise.randbytes(60_000)) for i in range(40)]
    fill(tmp_path, records)
    path = list_data_files(tmp_path)[0]
    reader = Reader(tmp_path)
    query = "SELECT key FROM unnamed WHERE key > ? AND key < ? AND rowid <= ? ORDER BY key LIMIT ?"
    plan = reader.query(path.name, f"EXPLAIN QUERY PLAN {query}", ("", "g", 99, 10))
    assert [row[3] for row in plan] == [
        b"SEARCH unnamed USING COVERING INDEX sqlite_autoindex_unnamed_1 (key>? AND key<?)"
    ]
    reader.close()
    with path.open("r+b") as file:
        payload = file.read()
        for record in records:  # all but the beginning of each, which lies in the table's pages
            at = payload.index(record.payload[20_000:20_100])
            file.seek(at)
            file.write(bytes(10_000))
    with opened(tmp_path) as store:
        assert list(store.pairs(*ALL)) == list_pairs(records)
        assert store.status().damaged == ()


def test_a_scan_needs_little_memory(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(3):
            store.append([make_record(NOON + hour * HOUR + i, 1, b"{}") for i in range(10_000)])
        deque(store.pairs(*ALL), maxlen=0)
        tracemalloc.start()
        try:
            assert sum(1 for _ in store.pairs(*ALL)) == 30_000
            assert sum(1 for _ in store.records(*ALL)) == 30_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_large_payloads_come_a_few_at_a_time(tmp_path: Path) -> None:
    noise = random.Random(4)
    with opened(tmp_path) as store:
        for i in range(40):
            store.append([make_record(NOON + i, i, noise.randbytes(500_000))])
        tracemalloc.start()
        try:
            assert sum(len(record.payload) for record in store.records(*ALL)) == 20_000_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 6 * 1024 * 1024


def count_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_scans_hold_no_files(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([make_record(NOON + hour * HOUR) for hour in range(60)])
        list(store.pairs(*ALL))
        before = count_open_files()
        scans = [store.records(*ALL) for _ in range(60)]
        for index, scan in enumerate(scans):
            for _ in range(index % 6 + 1):
                next(scan)
        assert count_open_files() <= before + 16
        del scans
        list(store.pairs(*ALL))
        assert count_open_files() <= before + 16


def test_everything_is_closed(tmp_path: Path) -> None:
    before = count_open_files()
    for _ in range(3):
        with opened(tmp_path) as store:
            store.append([make_record(NOON + day * DAY) for day in range(5)])
            next(store.pairs(*ALL))
            list(store.records(*ALL))
        assert count_open_files() == before


def test_a_closed_store_is_complete_without_its_companion_files(tmp_path: Path) -> None:
    """A backup may leave out the write-ahead logs."""
    folder, copy = tmp_path / "store", tmp_path / "copy"
    records = [*make_records(50), *make_records(50, NOON + HOUR), *make_records(50, NOON - HOUR)]
    fill(folder, records)
    copy.mkdir()
    for path in folder.glob("*.sqlite3"):
        shutil.copy(path, copy)
    with opened(copy) as store:
        assert set(store.records(*ALL)) == set(records)


def test_a_path_with_every_character(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20&e=\u2603'\""
    fill(folder, make_records(5))
    with opened(folder) as store:
        assert list(store.records(*ALL)) == make_records(5)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_path_that_begins_with_two_slashes(tmp_path: Path) -> None:
    folder = Path(f"/{tmp_path}/store")
    assert str(folder).startswith("//")
    fill(folder, make_records(5))
    with opened(folder) as store:
        assert list(store.records(*ALL)) == make_records(5)


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("a/b"), make_records(5))
    with opened(Path("a/b")) as store:
        assert list(store.records(*ALL)) == make_records(5)
