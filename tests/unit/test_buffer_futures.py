"""Futures of the buffer: nothing that their owners do to them delays another record."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from portable_core.errors import StoreError
from portable_core.ingest.pending import BufferStatus
from tests.unit.test_buffer import META, Disk, make


def test_a_caller_that_stops_waiting_withdraws_nothing_and_delays_no_other() -> None:
    disk = Disk()
    buffer = make(disk)

    async def give_up() -> None:
        waiting = asyncio.wrap_future(buffer.submit(1, b"{}", META))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.01)

    asyncio.run(give_up())
    others = [buffer.submit(n, b"{}", META) for n in (2, 3)]
    assert not others[0].cancel()
    buffer.flush()
    assert [pair.hash for pair in disk.pairs] == [1, 2, 3]
    assert [future.result(0) for future in others] == disk.pairs[1:]
    assert buffer.commit(4, b"{}", META) == disk.pairs[3]


def test_a_callback_may_use_the_buffer() -> None:
    disk = Disk()
    buffer = make(disk)
    seen: list[BufferStatus] = []
    future = buffer.submit(1, b"{}", META)
    future.add_done_callback(lambda done: seen.append(buffer.status()))
    future.add_done_callback(lambda done: buffer.add(2, b"{}", META) and None)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(buffer.flush).result(5)
    assert seen == [BufferStatus(0, 0, None)]
    buffer.flush()
    assert [pair.hash for pair in disk.pairs] == [1, 2]


def test_every_future_gets_an_error_of_its_own() -> None:
    disk = Disk()
    buffer = make(disk)
    disk.error = StoreError("no space left")
    futures = [buffer.submit(n, b"{}", META) for n in range(3)]
    with pytest.raises(StoreError):
        buffer.flush()
    errors = [future.exception(0) for future in futures]
    assert len(set(map(id, errors))) == 3
    assert {str(error) for error in errors} == {"no space left"}
    assert all(error is not None and error.__cause__ is disk.error for error in errors)
