"""Copies, backups and restarts of a SQLite store: no position of any history skips a record."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portable_core.adapters.sqlite import SqliteStore, places
from portable_core.errors import PositionUnknown
from portable_core.records import Pair
from tests.support.stores.samples import NOON, make_record

FAST_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

#: An operation on the store of a number: append so many records, restart, or copy while it runs.
operations = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(st.integers(1, 12), st.sampled_from(["restart", "copy", "copy closed", "back"])),
    ),
    max_size=14,
)


@dataclass(slots=True)
class History:
    """One folder, the records in its store, and the copy that is its backup."""

    folder: Path
    records: list[Pair] = field(default_factory=list)
    store: SqliteStore | None = None
    backup: tuple[Path, list[Pair]] | None = None

    def open(self) -> SqliteStore:
        if self.store is None:
            self.store = SqliteStore(self.folder)
            self.store.open("crc32c")
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None


class Histories:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.all = [History(root / "0")]
        self.positions: list[tuple[str, frozenset[Pair]]] = []
        self.count = 0

    def run(self, number: int, what: int | str) -> None:
        one = self.all[number % len(self.all)]
        if isinstance(what, int):
            records = [make_record(NOON + self.count + n, 1) for n in range(what)]
            self.count += what
            one.open().append(records)
            one.records += [record.pair for record in records]
        elif what == "restart":
            one.close()
        elif what == "back" and one.backup is not None:
            one.close()
            folder, one.records = one.backup[0], list(one.backup[1])
            shutil.rmtree(one.folder)
            shutil.copytree(folder, one.folder)
        elif what.startswith("copy") and one.records:
            if what == "copy closed":
                one.close()
            other = History(self.root / str(len(self.all)), list(one.records))
            shutil.copytree(one.folder, other.folder)
            backup = self.root / f"backup-{len(self.all)}"
            shutil.copytree(one.folder, backup)
            one.backup = (backup, list(one.records))
            self.all.append(other)
        self.positions.append((one.open().newest_arrival(), frozenset(one.records)))

    def check(self) -> None:
        for one in self.all:
            store = one.open()
            for position, read in self.positions:
                try:
                    got = [arrival.record.pair for arrival in store.arrivals(position)]
                except PositionUnknown as error:
                    got = [arrival.record.pair for arrival in store.arrivals(error.resume)]
                assert set(one.records) - read <= set(got)
                assert len(got) == len(set(got))
            order = [arrival.record.pair for arrival in store.arrivals()]
            assert order == one.records


@contextmanager
def made_histories() -> Iterator[Histories]:
    with tempfile.TemporaryDirectory(prefix="histories-", dir=FAST_FOLDER) as name:
        histories = Histories(Path(name))
        with ExitStack() as stack:
            stack.enter_context(patch.object(places, "_BLOCK", 8))
            try:
                yield histories
            finally:
                for one in histories.all:
                    one.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations)
def test_no_position_skips_a_record_of_any_history(
    chosen: list[tuple[int, int | str]],
) -> None:
    with made_histories() as histories:
        for number, what in chosen:
            histories.run(number, what)
        histories.check()
