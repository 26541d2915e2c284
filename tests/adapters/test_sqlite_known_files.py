"""The packed list of known files behaves as a dictionary of them does."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.sqlite.file_rows import close_file, decode_file, encode_file
from portable_core.adapters.sqlite.files import HOUR_MS, DataFile, Extent, format_name
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.records import MAX_INTEGER, Pair, format_sort_key

#: Few, so that files meet again; and the extremes.
hours = st.sampled_from([0, 1, 2, 3, 498_558, MAX_INTEGER // HOUR_MS])
numbers = st.sampled_from([0, 1, 2, 10, 999_999])
keys = st.builds(Pair, st.integers(0, MAX_INTEGER), st.integers(0, MAX_INTEGER)).map(
    lambda pair: format_sort_key(pair).encode()
)
sizes = st.integers(0, 2**63 - 1)


@st.composite
def files(draw: st.DrawFn) -> DataFile:
    rows = draw(st.integers(0, 2**40))
    first, last = sorted([draw(keys), draw(keys)])
    extent = Extent(rows, first, last, draw(st.integers(1, rows))) if rows else Extent()
    file = DataFile(draw(hours), draw(numbers), draw(sizes), extent)
    kind = draw(
        st.sampled_from(["closed", "closed", "open", "damaged", "lost", "sealed", "in transition"])
    )
    if kind == "closed":
        return close_file(file, (file.inode, draw(sizes), draw(sizes), 4))
    if kind == "damaged":
        return replace(file, damage="torn", fingerprint=(1, 2, 3, 4), extent=Extent())
    if kind == "lost":
        return replace(file, loss="it held more")
    return replace(file, in_transition=kind == "in transition", sealed=kind == "sealed")


steps = st.one_of(
    st.tuples(st.just("put"), st.lists(files(), max_size=5)),
    st.tuples(st.just("drop"), st.lists(files(), max_size=2)),
    st.tuples(st.just("damage"), st.lists(files(), max_size=1)),
)


@given(st.lists(files()), st.lists(steps, max_size=15), hours, hours)
def test_it_is_a_dictionary_in_order(
    saved: list[DataFile], history: list[tuple[str, list[DataFile]]], first: int, last: int
) -> None:
    known = KnownFiles()
    model = {file.name: file for file in saved}
    known.replace_all(model.values())
    removed: dict[int, int] = {}
    for step, changed in history:
        if step == "put":
            known.put(*changed)
            model.update({file.name: file for file in changed})
        elif step == "drop":
            known.drop([file.name for file in changed])
            for file in changed:
                model.pop(file.name, None)
                removed[file.hour] = max(removed.get(file.hour, 0), file.number)
        else:
            for file in changed:
                after = known.mark_damaged(file.name, "torn", (5,))
                before = model.get(file.name)
                assert (after is not None) == (before is not None and before.readable)
                if after is not None:
                    model[file.name] = after

    ordered = sorted(model.values(), key=lambda file: (file.hour, file.number))
    readable = [file for file in ordered if file.readable and file.extent.rows]
    assert list(known.list_all()) == ordered
    assert list(reversed(known.list_all())) == ordered[::-1]
    assert list(known.list_all(first, last)) == [f for f in ordered if first <= f.hour <= last]
    window = known.list_readable(first * HOUR_MS + 1, last * HOUR_MS + 1)
    assert list(window) == [file for file in readable if first <= file.hour <= last]
    assert known.list_others() == [file for file in ordered if not file.closed]
    edges = ([file for file in readable if file.hour == readable[at].hour] for at in (0, -1))
    if readable:
        assert [list(known.list_first_hour()), list(known.list_last_hour())] == list(edges)
    assert known.find_newest_writable() == max(
        (file for file in ordered if file.writable),
        key=lambda file: (file.hour, file.number),
        default=None,
    )
    fitting = [file for file in ordered if file.writable and file.hour == first]
    assert known.find_writable(first) == (fitting[-1] if fitting else None)
    for file in ordered:
        assert known.get(file.name) == file
    assert known.get(format_name(77, 0)) is None
    used = [file.number for file in ordered if file.hour == first]
    assert known.next_number(first) == max([-1, removed.get(first, -1), *used]) + 1
    closed = [file for file in ordered if file.closed]
    totals = known.total()
    counts = [file.extent.count or 0 for file in closed]
    assert (totals.closed, totals.records) == (len(closed), sum(counts))
    assert totals.bytes == sum(file.fingerprint[1] for file in closed)
    assert len(known) == len(model)


@given(st.lists(files(), unique_by=lambda file: file.name), st.data())
def test_every_closed_file_is_checked_once(saved: list[DataFile], data: st.DataObject) -> None:
    known = KnownFiles()
    known.replace_all(saved)
    expected = {file.name for file in saved if file.closed}
    while True:
        assert known.total().unchecked == len(expected)
        if data.draw(st.booleans()):  # a file is opened for writing, or closed
            changed = data.draw(files())
            known.put(changed)
            expected.discard(changed.name)
        file = known.next_unchecked()
        if file is None:
            break
        known.note_checked(replace(file, inode=file.inode ^ 1))  # another one by now: no effect
        assert known.next_unchecked() == file
        known.note_checked(file)
        expected.remove(file.name)
    assert not expected


@given(files())
def test_a_row_of_the_state_gives_the_file_back(file: DataFile) -> None:
    extent = file.extent
    for durable in (False, True):
        row = msgspec.json.encode(encode_file(file, durable=durable))
        known = durable or file.closed or file.loss or file.sealed
        assert decode_file(file.name, row) == replace(file, extent=extent if known else Extent())
