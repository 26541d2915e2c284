"""A stream cut after any byte but the last is never whole, and yields a prefix of its items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import MalformedStream, StreamCut
from tests.support.laws.wire_streams import Kind, chunkings, kinds, read


@given(kinds, st.data())
def test_cut_after_every_byte(kind: Kind, data: st.DataObject) -> None:
    items = data.draw(kind.items)
    stream = kind.encode(items)
    seen = 0
    for length in range(len(stream)):
        outcome = read(kind.reader(), [stream[:length]])
        assert outcome.error is StreamCut
        assert not outcome.whole
        assert outcome.items == items[: outcome.received]
        assert seen <= outcome.received <= len(items)
        seen = outcome.received


@given(kinds, st.data())
def test_whole_exactly_from_the_last_byte_on(kind: Kind, data: st.DataObject) -> None:
    stream = kind.encode(data.draw(kind.items))
    reader = kind.reader()
    for chunk in data.draw(chunkings(stream[:-1])):
        reader.feed(chunk)
        assert not reader.whole
    reader.feed(stream[-1:])
    assert reader.whole
    reader.finish()


@given(kinds, st.data(), st.binary(min_size=1, max_size=20))
def test_trailing_data_is_a_fault(kind: Kind, data: st.DataObject, trailing: bytes) -> None:
    items = data.draw(kind.items)
    stream = kind.encode(items)
    outcome = read(kind.reader(), data.draw(chunkings(stream + trailing)))
    assert outcome.items == items
    if kind.encoding.media_type == "application/json" and not trailing.strip(b" \t\n\r"):
        assert outcome.error is None
        assert outcome.whole
    else:
        assert outcome.error is MalformedStream
        assert outcome.element == len(items)
        assert not outcome.whole
