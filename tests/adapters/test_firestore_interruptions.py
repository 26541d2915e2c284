"""Interrupted commits: no half record is visible, nothing is left behind, limits hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from portable_core.adapters.firestore import FirestoreStore
from portable_core.adapters.firestore import records as records_module
from portable_core.adapters.firestore.batches import (
    COMMIT_BYTES,
    COMMIT_WRITES,
    CommitBuilder,
    DocumentOptions,
)
from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import (
    BUCKET_MS,
    PAGES,
    PARTS,
    RECORDS,
    format_id,
    format_part_id,
)
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.errors import StoreError
from portable_core.records import MAX_INTEGER, Pair, Record
from tests.support.firestore_emulator import PROJECT, opened_database

LARGE = Record(Pair(1001, 1), bytes(9_000_000))
RECORDS_OF_TWO_PAGES = [
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
    store = FirestoreStore(PROJECT, name, commit_timeout_ms=10_000, ttl_ms=5000)
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
            for record in RECORDS_OF_TWO_PAGES[5:15]
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
    monkeypatch.setattr(records_module, "_DELETES", 7)

    def remove() -> object:
        return store.prune(MAX_INTEGER) if by == "age" else store.prune_to_size(0)

    names = [database.name(RECORDS, format_id(record.pair)) for record in RECORDS_OF_TWO_PAGES]
    names += [
        database.name(PARTS, format_part_id(format_id(LARGE.pair), number)) for number in range(10)
    ]
    for commits in range(12):
        store.append(RECORDS_OF_TWO_PAGES)
        assert len(database.get(names)[0]) == len(names)
        interrupted = run_interrupted(remove, commits)
        remove()
        assert database.get(names)[0] == {}
        assert list(database.scan(RangeQuery(PAGES, "key"), 10)) == []
        if not interrupted:
            break
    assert 5 <= commits < 11


def test_every_document_of_a_record_expires(store: FirestoreStore, database: Database) -> None:
    store.append([LARGE, Record(Pair(2000, 2), b"{}")])
    id_ = format_id(LARGE.pair)
    names = [
        database.name(RECORDS, id_),
        *(database.name(PARTS, format_part_id(id_, number)) for number in range(10)),
    ]
    documents = [*database.get(names)[0].values(), *database.scan(RangeQuery(PAGES, "key"), 10)]
    assert len(documents) == 12
    seconds = [document.fields["expires"].timestamp_value.seconds for document in documents]
    assert seconds == [6] * 11 + [7]  # the page's is that of its newest record


@pytest.mark.parametrize(("size", "step_ms"), [(2, 1), (2, BUCKET_MS), (3600, BUCKET_MS)])
def test_commits_are_within_their_limits(size: int, step_ms: int) -> None:
    database = Database(PROJECT, "database-of-some-length")
    builder = CommitBuilder(database, DocumentOptions(ttl_ms=5000))
    records = [Record(Pair(number * step_ms, number), bytes(size)) for number in range(2500)]
    commits = [*builder.add_records(records), *builder.finish()]
    written = 0
    for writes in commits:
        request = types.CommitRequest.pb()(database=database.path, writes=writes)
        assert request.ByteSize() <= COMMIT_BYTES
        documents = sum(f"/{RECORDS}/" in write.update.name for write in writes)
        assert documents <= COMMIT_WRITES
        written += documents
    assert written == 2500
    assert len(commits) == 3
