"""What the store knows of a file without asking it is what the file holds."""

from __future__ import annotations

import tempfile
from dataclasses import astuple
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from portable_core.adapters.sqlite.files import Extent
from portable_core.adapters.sqlite.reader import Reader
from tests.support.stores.samples import NOON, make_record
from tests.support.stores.sqlite_folders import list_data_files, opened

#: Batches by their first second and their size; they overlap, so some of their records are stored
#: already. A batch of up to 100 is one statement.
batches = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from([1, 2, 3, 99, 100, 101, 150])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(batches)
def test_the_extent_after_an_append(given_batches: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "store") as store:
        stored: set[int] = set()
        for first, size in given_batches:
            store.append([make_record(NOON + 1000 * n) for n in range(first, first + size)])
            stored |= set(range(first, first + size))
            (path,) = list_data_files(Path(name) / "store")
            file = store._state.files.get(path.name)
            assert file is not None
            version = store._registry.version
            found = Reader(path.parent).read_summary(path.name, version, Extent(), alone=False)
            assert found is not None
            assert astuple(file.extent) == astuple(found)
            assert file.extent.count == len(stored)
