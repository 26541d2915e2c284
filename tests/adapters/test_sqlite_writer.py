"""What a failed commit reports, and what it leaves in the database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from portable_core.adapters.sqlite.writer import Statement, Writer
from portable_core.errors import StoreError

ROW = 'INSERT INTO "records" (key, value) VALUES (?, ?)'


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "file.sqlite3", ("records",), 1)
    writer.open(time.monotonic() + 10)
    commit(writer, [(ROW, ("a", b"1"))])
    yield writer
    writer.abandon()


def commit(writer: Writer, statements: Sequence[Statement]) -> object:
    count: Statement = ("SELECT count(*) FROM records", ())
    return writer.commit(statements, time.monotonic() + 10, then=count)


def read_keys(path: Path) -> list[str]:
    connection = sqlite3.connect(path / "file.sqlite3")
    try:
        return [key for (key,) in connection.execute("SELECT key FROM records ORDER BY key")]
    finally:
        connection.close()


FAILING: dict[str, list[Statement]] = {
    "one statement": [(f"{ROW}, (?, ?)", ("b", b"2", "a", b"3"))],
    "one that ends its transaction": [
        (ROW.replace("INSERT", "INSERT OR ROLLBACK") + ", (?, ?)", ("b", b"2", "a", b"3"))
    ],
    "the first of two": [(ROW, ("a", b"3")), (ROW, ("b", b"2"))],
    "the second, which ends the transaction": [
        (ROW, ("b", b"2")),
        (ROW.replace("INSERT", "INSERT OR ROLLBACK"), ("a", b"3")),
        (ROW, ("c", b"4")),
    ],
}


@pytest.mark.parametrize("statements", FAILING.values(), ids=FAILING)
def test_the_first_error_is_reported_and_nothing_is_committed(
    tmp_path: Path, writer: Writer, statements: list[Statement]
) -> None:
    """The reason decides what follows: another file, a full disk, a retry. ``COMMIT`` after a
    rollback fails as well, but that is not the reason."""
    with pytest.raises(StoreError, match="UNIQUE"):
        commit(writer, statements)
    assert writer.abandoned
    assert writer.ended
    assert read_keys(tmp_path) == ["a"]


@pytest.mark.parametrize("count", [1, 2])
def test_rows_of_the_query_come_after_the_commit(
    tmp_path: Path, writer: Writer, count: int
) -> None:
    rows: list[Statement] = [(ROW, (f"b{number}", b"")) for number in range(count)]
    assert commit(writer, rows) == [(1 + count,)]
    assert len(read_keys(tmp_path)) == 1 + count
