"""Whatever the clock does: timestamps never decrease, pairs are unique, the horizon is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.buffer import Buffer
from portable_core.ingest.buffer_limits import BufferLimits
from portable_core.records import Meta, Pair

LIMITS = BufferLimits(commit_timeout_s=10, linger_s=0, records=1000, bytes=1_000_000)

steps = st.one_of(
    st.tuples(st.just("clock"), st.integers(0, 30)),
    st.tuples(st.just("add"), st.integers(0, 3)),
    st.tuples(st.just("horizon"), st.just(0)),
    st.tuples(st.just("flush"), st.just(0)),
    st.tuples(st.just("reserve"), st.integers(0, 200)),
)


@given(st.lists(steps, max_size=60), st.integers(0, 30))
def test_timestamps(history: list[tuple[str, int]], floor: int) -> None:
    clock = SimulatedClock(10)
    committed: list[int] = []
    buffer = Buffer(
        lambda records, deadline: committed.extend(r.pair.timestamp for r in records),
        clock,
        LIMITS,
        floor,
    )
    assigned: list[Pair] = []
    reserved: set[Pair] = set()
    horizon = floor
    for step, value in history:
        if step == "clock":
            clock.set(value)
        elif step == "add":
            pair = buffer.add(value, b"{}", Meta())
            assert pair.timestamp >= max([horizon, *(p.timestamp for p in assigned)])
            assert pair not in assigned
            assert pair not in reserved
            assigned.append(pair)
        elif step == "reserve":  # a run of up to 100 ms
            pairs = [Pair(value // 10 + n, value % 4) for n in range(value // 2)]
            buffer.reserve(pairs)
            reserved.update(pairs)
        elif step == "horizon":
            assert buffer.commit_horizon() >= horizon
            horizon = buffer.commit_horizon()
            waiting = assigned[len(committed) :]
            assert all(pair.timestamp >= horizon for pair in waiting)
        else:
            buffer.flush()
            assert len(committed) == len(assigned)
