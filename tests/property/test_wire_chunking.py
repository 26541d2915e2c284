"""The division of a stream into chunks changes nothing, and only our errors are raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portable_core.wire.negotiation import WireLimits
from tests.support.laws.wire_streams import Kind, chunkings, damaged, kinds, read, split

#: Small enough to be met now and then.
limits = st.builds(WireLimits, st.integers(20, 200), st.integers(20, 100))


@given(kinds, st.data())
def test_any_bytes_in_any_chunks(kind: Kind, data: st.DataObject) -> None:
    stream = data.draw(damaged(kind.streams))
    outcome = read(kind.reader(), [stream])
    assert read(kind.reader(), split(stream, range(len(stream)))) == outcome
    assert read(kind.reader(), data.draw(chunkings(stream))) == outcome


@given(kinds, limits, st.data())
def test_any_bytes_under_any_limits(kind: Kind, limits: WireLimits, data: st.DataObject) -> None:
    stream = data.draw(damaged(kind.streams) | kind.streams)
    outcome = read(kind.reader(limits), [stream])
    assert read(kind.reader(limits), split(stream, range(len(stream)))) == outcome
    assert read(kind.reader(limits), data.draw(chunkings(stream))) == outcome
