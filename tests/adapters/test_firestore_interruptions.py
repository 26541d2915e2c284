"""Interrupted commits: no half record is visible, nothing is left behind, limits hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from portable_core.adapters.firestore import FirestoreStore, removal
from portable_core.adapters.firestore.batches import (
    COMMIT_BYTES,
    COMMIT_WRITES,
    CommitBuilder,
    DocumentOptions,
)
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    BUCKET_MS,
    PARTS,
    RECORDS,
    SEGMENTS,
    format_id,
)
from portable_core.adapters.firestore.operations import check_limits
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.adapters.firestore.segments import format_value_part, read_segment_entries
from portable_core.errors import StoreError
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.firestore_emulator import PROJECT, opened_database

LARGE = Record(Pair(1001, 1), random.Random(1).randbytes(9_000_000))
RECORDS_OF_TWO_SEGMENTS = [
    *(Record(Pair(1000, number), b"{}") for number in range(10)),
    LARGE,
    *(Record(Pair(1000 + BUCKET_MS, number), b"{}") for number in range(10)),
]


@pytest.fixture
def database() -> Iterator[Database]:
    with opened_database() as database:
        yield database


@pytest.fixture
def store(database: Database) -> Iterator[FirestoreStore]:
    name = database.path.rpartition("/")[2]
    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000, ttl_ms=5000, native_data=True)
    store.open("crc32c")
    yield store
    store.close()


def run_interrupted(action: Callable[[], object], commits: int) -> bool:
    """Run it until so many commits are done; False if it needed no more than these."""
    commit = Database.commit
    left = iter(range(commits))

    def commit_while_it_lasts(database: Database, writes: Sequence[Any], **options: float) -> int:
        if next(left, None) is None:
            raise StoreError("the process ends here")
        return commit(database, writes, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "commit", commit_while_it_lasts)
        try:
            action()
        except StoreError:
            return True
    return False


def test_an_append_that_ends_anywhere_shows_no_half_record(store: FirestoreStore) -> None:
    for commits in range(10):
        # Other records each time: parts left by the last run would complete this one.
        shifted = [
            Record(Pair(record.pair.timestamp, record.pair.hash + 100 * commits), record.payload)
            for record in RECORDS_OF_TWO_SEGMENTS[5:15]
        ]
        own = {record.pair: record for record in shifted}
        interrupted = run_interrupted(partial(store.append, shifted), commits)
        seen = [record for record in store.records(0, MAX_INTEGER) if record.pair in own]
        assert all(own[record.pair] == record for record in seen)
        assert {pair for pair in store.pairs(0, MAX_INTEGER) if pair in own} == {
            record.pair for record in seen
        }
        store.append(shifted)
        assert list(store.fetch(list(own))) == list(own.values())
        assert store.prune(MAX_INTEGER) == len(own)
        if not interrupted:
            break
    assert commits == 3


@pytest.mark.parametrize("by", ["age", "size"])
def test_a_removal_that_ends_anywhere_is_finished_by_the_next(
    store: FirestoreStore, database: Database, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(removal, "_DELETES", 7)

    def remove() -> object:
        return store.prune(MAX_INTEGER) if by == "age" else store.prune_to_size(0)

    for commits in range(12):
        store.append(RECORDS_OF_TWO_SEGMENTS)
        assert count_documents(database) == [2, 10, 21]
        interrupted = run_interrupted(remove, commits)
        remove()
        assert count_documents(database) == [0, 0, 0]
        if not interrupted:
            break
    assert 5 <= commits < 11


def count_documents(database: Database) -> list[int]:
    return [database.count(group) for group in (SEGMENTS, PARTS, RECORDS)]


def test_every_document_of_a_record_expires(store: FirestoreStore, database: Database) -> None:
    """All of a segment when its newest record does."""
    store.append([LARGE, Record(Pair(2000, 2), b"{}")])
    [segment] = database.scan(RangeQuery(SEGMENTS, "key"), 10)
    id_ = segment.name.rpartition("/")[2]
    names = [
        *(database.name(PARTS, format_value_part(id_, 0, number)) for number in range(10)),
        *(database.name(RECORDS, format_id(pair)) for pair in (LARGE.pair, Pair(2000, 2))),
    ]
    documents = [*database.get(names)[0].values(), segment]
    assert len(documents) == 13
    seconds = {document.fields["expires"].timestamp_value.seconds for document in documents}
    assert seconds == {7}


@pytest.mark.parametrize(
    ("size", "step_ms", "native_data", "segments", "commits"),
    [
        (2, 1, False, 1, 1),
        (2, BUCKET_MS, False, 2500, 3),
        (3600, 1, False, 10, 3),
        (3600, BUCKET_MS, False, 2500, 3),
        (2, 1, True, 3, 3),
        (3600, 1, True, 10, 4),
    ],
)
def test_commits_are_within_their_limits(
    size: int, step_ms: int, native_data: bool, segments: int, commits: int
) -> None:
    """Random bytes, so that nothing can be compressed; a copy is in its segment's commit."""
    database = Database(PROJECT, "database-of-some-length")
    builder = CommitBuilder(database, DocumentOptions(native_data, ttl_ms=5000))
    source = random.Random(2)
    records = [
        Record(Pair(number * step_ms, number), source.randbytes(size)) for number in range(2500)
    ]
    made = [*builder.add_records(records), *builder.finish()]
    found = copies = 0
    for writes in made:
        request = types.CommitRequest.pb()(database=database.path, writes=writes)
        assert request.ByteSize() <= COMMIT_BYTES
        assert len(writes) <= COMMIT_WRITES
        check_limits(request, database.operations)
        pairs: set[Pair] = set()
        for write in writes:
            if f"/{SEGMENTS}/" in write.update.name:
                pairs |= {entry.pair for entry in read_segment_entries(write.update)}
                found += 1
        names = {write.update.name for write in writes if f"/{RECORDS}/" in write.update.name}
        if native_data:
            assert names == {database.name(RECORDS, format_id(pair)) for pair in pairs}
        copies += len(names)
    assert (found, len(made), copies) == (segments, commits, 2500 * native_data)
