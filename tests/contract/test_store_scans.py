"""Scans, for every store, while other threads append, prune and read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from portable_core.ports import MasterStore
from portable_core.records import MAX_INTEGER
from tests.support.stores.samples import DAY, HOUR, NOON, make_record, make_records

ALL = (0, MAX_INTEGER + 1)


def test_what_is_appended_later_is_not_in_a_running_scan(store: MasterStore) -> None:
    records = make_records(3000)
    store.append(records)
    pairs, whole = store.pairs(*ALL), store.records(*ALL)
    first_pair, first_record = next(pairs), next(whole)
    later = [make_record(record.pair.timestamp + 1, 5) for record in records[::100]]
    store.append([*later, make_record(NOON - DAY), make_record(NOON + DAY), *records[:50]])
    assert [first_pair, *pairs] == [record.pair for record in records]
    assert [first_record, *whole] == records
    assert len(list(store.pairs(*ALL))) == 3000 + len(later) + 2


def test_scans_run_side_by_side(store: MasterStore) -> None:
    records = make_records(50)
    store.append(records)
    scans = [store.pairs(*ALL) for _ in range(5)]
    assert list(zip(*scans, strict=True)) == [(record.pair,) * 5 for record in records]


def test_a_scan_may_continue_in_another_thread(store: MasterStore) -> None:
    records = make_records(5000)
    store.append(records)
    scan = store.pairs(*ALL)
    got = [next(scan)]
    thread = threading.Thread(target=lambda: got.extend(scan))
    thread.start()
    thread.join()
    assert got == [record.pair for record in records]


def test_abandoned_scans_block_nothing(store: MasterStore) -> None:
    store.append(make_records(100))
    abandoned = [store.pairs(*ALL) for _ in range(200)]
    for scan in abandoned:
        next(scan)
    store.append(make_records(10, NOON + DAY))
    store.prune(NOON + HOUR)
    del abandoned
    assert len(list(store.pairs(NOON + DAY, MAX_INTEGER))) == 10


def test_scans_while_another_thread_appends(store: MasterStore) -> None:
    """Each scan shows the store at one point in time."""
    batches = [make_records(20, NOON + batch * HOUR // 4) for batch in range(12)]
    timestamps = [record.pair.timestamp for batch in batches for record in batch]

    def append_all() -> None:
        for batch in batches:
            store.append(batch)

    with ThreadPoolExecutor(1) as executor:
        appending = executor.submit(append_all)
        before = 0
        while True:
            last_round = appending.done()
            got = [pair.timestamp for pair in store.pairs(*ALL)]
            assert got == timestamps[: len(got)]
            assert len(got) >= before
            before = len(got)
            if last_round:
                break
        appending.result()
    assert before == len(timestamps)


def test_many_threads_read(store: MasterStore) -> None:
    records = make_records(500)
    store.append(records)
    with ThreadPoolExecutor(16) as executor:
        scans = [executor.submit(lambda: list(store.records(*ALL))) for _ in range(16)]
        assert all(scan.result() == records for scan in scans)


def test_many_threads_append_and_save_at_once(store: MasterStore) -> None:
    """A master's buffer and its sync write side by side."""
    lease = store.acquire_lease("a", NOON, HOUR)
    received = [make_records(5, NOON + 1000 * batch) for batch in range(10)]
    recovered = [make_records(5, NOON - HOUR + 1000 * batch) for batch in range(10)]

    def save_all() -> None:
        for batch in recovered:
            store.save_records(lease, batch)

    with ThreadPoolExecutor(1) as executor:
        saving = executor.submit(save_all)
        for batch in received:
            store.append(batch)
        saving.result()
    assert list(store.records(*ALL)) == [r for batch in [*recovered, *received] for r in batch]
