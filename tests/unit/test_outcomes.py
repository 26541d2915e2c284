"""Outcomes of the buffer: nothing that their owners do to them delays another record."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from portable_core.errors import StoreError
from portable_core.ingest.outcome import Outcome
from portable_core.ingest.pending import BufferStatus
from portable_core.records import Pair
from tests.unit.test_buffer import META, Disk, make


def test_a_callback_that_fails_delays_no_other(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    buffer = make(disk)
    seen: list[Pair] = []

    def fail(outcome: object) -> None:
        raise ValueError("not the buffer's fault")

    first, second = (buffer.submit(n, b"{}", META) for n in (1, 2))
    first.add_done_callback(fail)
    for outcome in (first, second):
        outcome.add_done_callback(lambda done: seen.append(done.result()))
    buffer.flush()
    assert [pair.hash for pair in disk.pairs] == [1, 2]
    assert seen == disk.pairs
    assert "not the buffer's fault" in caplog.text
    assert buffer.commit(3, b"{}", META) == disk.pairs[2]


def _add_callbacks(outcome: Outcome[int], begun: threading.Barrier, seen: list[int]) -> None:
    begun.wait()
    for number in range(20):
        outcome.add_done_callback(partial(_note, seen, number))


def _note(seen: list[int], number: int, outcome: Outcome[int]) -> None:
    seen.append(number)


def test_every_callback_is_called_once_whenever_it_is_added() -> None:
    """One thread adds callbacks while another one resolves the outcome."""
    for _ in range(200):
        outcome: Outcome[int] = Outcome()
        seen: list[int] = []
        begun = threading.Barrier(2)
        thread = threading.Thread(target=_add_callbacks, args=(outcome, begun, seen))
        thread.start()
        begun.wait()
        outcome.set_result(1)
        thread.join()
        assert sorted(seen) == list(range(20))


def test_an_outcome_is_read_once_it_is_known() -> None:
    outcome: Outcome[int] = Outcome()
    assert not outcome.done()
    with pytest.raises(RuntimeError):
        outcome.result()
    with pytest.raises(RuntimeError):
        outcome.exception()
    outcome.set_exception(StoreError("no space left"))
    assert outcome.done()
    assert isinstance(outcome.exception(), StoreError)
    with pytest.raises(StoreError, match="no space"):
        outcome.result()


def test_a_callback_may_use_the_buffer() -> None:
    disk = Disk()
    buffer = make(disk)
    seen: list[BufferStatus] = []
    outcome = buffer.submit(1, b"{}", META)
    outcome.add_done_callback(lambda done: seen.append(buffer.status()))
    outcome.add_done_callback(lambda done: buffer.add(2, b"{}", META) and None)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(buffer.flush).result(5)
    assert seen == [BufferStatus(0, 0, None)]
    buffer.flush()
    assert [pair.hash for pair in disk.pairs] == [1, 2]


def test_every_outcome_gets_an_error_of_its_own() -> None:
    disk = Disk()
    buffer = make(disk)
    disk.error = StoreError("no space left")
    outcomes = [buffer.submit(n, b"{}", META) for n in range(3)]
    with pytest.raises(StoreError):
        buffer.flush()
    errors = [outcome.exception() for outcome in outcomes]
    assert len(set(map(id, errors))) == 3
    assert {str(error) for error in errors} == {"no space left"}
    assert all(error is not None and error.__cause__ is disk.error for error in errors)
