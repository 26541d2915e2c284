"""``webhook-sync repair`` on every store: nothing is lost or doubled by an interruption."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from portable_core.errors import SettingsError
from portable_core.ingest.receiver import HORIZON_MARK
from portable_core.ports import MasterStore, SlaveState
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.sync.repair import Repair, RepairableStore, RepairReport
from tests.support.stores.samples import DAY, HOUR, NOON, make_records
from tests.support.stores.stores import ALGORITHM, SHORT, Place, let_expire

SPAN = 120_000
YEAR = 365 * DAY
NOW = NOON + 2 * HOUR
END = MAX_INTEGER + 1


def make(timestamp: int, number: int, hash_: int | None = None) -> Record:
    """A record that its key and payload distinguish from every other."""
    pair = Pair(timestamp, number if hash_ is None else hash_)
    return Record(pair, b'{"number":%d}' % number, Meta("shop", key=f"{number:032x}"))


#: Right records, of which the last ones share the hour of the repair and come close to its cut.
RIGHT = [make(NOON + 600_000 * n, n) for n in range(12)] + [make(NOW + 20_000, 90)]


def make_ahead(start: int = NOW + YEAR, step: int = 1_000) -> list[Record]:
    return [make(start + step * n, 1_000 + n) for n in range(40)]


def read_all(store: MasterStore) -> list[Record]:
    return list(store.records(0, END))


def count(records: list[Record]) -> Counter[tuple[int, bytes, str]]:
    """What a record is, whatever its time."""
    return Counter((record.pair.hash, record.payload, record.meta.key) for record in records)


def repair(store: MasterStore, now: int = NOW, offset: int = 0, **options: Any) -> RepairReport:
    return Repair(cast(RepairableStore, store), now, SPAN, offset).run(**options)


@pytest.fixture
def ahead(store: MasterStore) -> list[Record]:
    """Records a year ahead, beside right ones, as a node leaves them."""
    records = make_ahead()
    store.append([*RIGHT, *records])
    store.raise_mark(HORIZON_MARK, records[-1].pair.timestamp + 1)
    return records


def test_a_store_a_year_ahead(store: MasterStore, ahead: list[Record]) -> None:
    before = store.info()
    report = repair(store)
    assert (report.records, report.ahead, report.moved, report.records_after) == (53, 40, 40, 53)
    assert (report.first, report.last) == (ahead[0].pair.timestamp, ahead[-1].pair.timestamp)
    assert (report.new_first, report.new_last) == (NOW - 39_000, NOW)
    assert report.marks_ahead
    assert report.copies == 0
    after = read_all(store)
    assert count(after) == count([*RIGHT, *ahead])
    assert [record for record in after if record in RIGHT] == RIGHT
    assert store.mark(HORIZON_MARK) == NOW + 20_001
    assert store.info().uuid == before.uuid
    assert store.info().generation > before.generation
    assert repair(store).ahead == 0
    assert not store.marks("repair-")


def test_an_offset_that_is_known(store: MasterStore, ahead: list[Record]) -> None:
    report = repair(store, offset=YEAR + HOUR)
    assert report.moved == 40
    moved = [record.pair.timestamp for record in read_all(store) if record.pair.hash >= 1_000]
    assert moved == [record.pair.timestamp - YEAR - HOUR for record in ahead]


@pytest.mark.parametrize("offset", [1, HOUR, YEAR - 1_000, NOW + 2 * YEAR])
def test_an_offset_that_cannot_be_right(
    store: MasterStore, ahead: list[Record], offset: int
) -> None:
    with pytest.raises(SettingsError, match="--offset"):
        repair(store, offset=offset)
    assert read_all(store) == [*RIGHT, *ahead]
    assert not store.marks("repair-")


def test_a_dry_run_changes_nothing(store: MasterStore, ahead: list[Record]) -> None:
    info = store.info()
    report = repair(store, dry_run=True)
    assert (report.ahead, report.moved, report.records_after) == (40, 0, None)
    assert read_all(store) == [*RIGHT, *ahead]
    assert store.info() == info
    assert not store.marks("repair-")


def test_a_store_that_is_right(store: MasterStore) -> None:
    store.append(RIGHT)
    store.raise_mark(HORIZON_MARK, NOW)
    info = store.info()
    report = repair(store)
    assert (report.ahead, report.moved, report.marks_ahead) == (0, 0, False)
    assert (store.info(), read_all(store)) == (info, RIGHT)


def test_a_horizon_alone(store: MasterStore) -> None:
    """A request for the status in the wrong moment pushed it, before there was a rule."""
    store.append(RIGHT)
    store.raise_mark(HORIZON_MARK, NOW + YEAR)
    generation = store.info().generation
    assert repair(store).marks_ahead
    assert store.mark(HORIZON_MARK) == NOW + 20_001
    assert store.info().generation > generation
    assert read_all(store) == RIGHT


def test_records_ahead_within_the_hour_of_right_ones(store: MasterStore) -> None:
    records = make_ahead(NOW + 60_000, 1_000)
    store.append([*RIGHT, *records])
    assert repair(store).moved == 40
    after = read_all(store)
    assert count(after) == count([*RIGHT, *records])
    assert max(record.pair.timestamp for record in after) == NOW + 20_000


def test_two_faults_of_different_size(store: MasterStore) -> None:
    """Neither ends a year in the past."""
    records = [*make_ahead(NOW + HOUR), *(make(NOW + YEAR + n, 5_000 + n) for n in range(5))]
    store.append([*RIGHT, *records])
    report = repair(store)
    assert report.new_last == NOW
    assert report.new_first is not None
    assert report.new_first >= NOW - DAY - HOUR
    assert count(read_all(store)) == count([*RIGHT, *records])


def test_no_moved_record_gets_the_pair_of_another(store: MasterStore) -> None:
    ahead = [make(NOW + YEAR, 1, 7), make(NOW + YEAR + 1, 2, 7)]
    there = [make(NOW - n, 10 + n, 7) for n in range(5)]
    store.append([*there, *ahead])
    report = repair(store)
    assert report.new_last == NOW - 5 - 1 + 1
    assert count(read_all(store)) == count([*there, *ahead])
    assert report.records_after == 7


def test_copies_are_counted_by_key(store: MasterStore) -> None:
    """A node under a wrong clock has recovered what it had already."""
    ahead = make_ahead()
    twice = [make(NOW - 60_000 + n, 1_000 + n) for n in range(10)]
    store.append([*RIGHT, *twice, *ahead])
    assert repair(store).copies == 10


def test_the_cursors_of_a_master_are_reset(store: MasterStore, ahead: list[Record]) -> None:
    lease = store.acquire_lease("a", NOW, 10_000)
    state = SlaveState(NOW, "store", 3, 5, {"saved": 1})
    store.save_slave(lease, "s", state)
    store.release_lease(lease)
    assert repair(store).slaves_reset == 1
    after = store.slave_states()["s"]
    assert after == replace(state, cursor=0)


def test_a_scan_under_way_stays_right(store: MasterStore) -> None:
    right, ahead = make_records(3_000, NOW - HOUR, 10), make_ahead()
    store.append([*right, *ahead])
    scan = store.records(0, END)
    seen = [next(scan) for _ in range(10)]
    repair(store)
    seen += scan
    assert seen[: len(right)] == right
    assert count(read_all(store)) == count([*right, *ahead])


# -- interruptions ---------------------------------------------------------------------------------


class _Interrupted(BaseException):
    pass


_WRITES = {
    "append",
    "set_mark",
    "begin_generation",
    "remove_after",
    "acquire_lease",
    "save_slave",
    "release_lease",
}


class InterruptedStore:
    """Ends at the write with this number, before or after it; an append may be written in part."""

    def __init__(self, store: MasterStore, number: int, kind: str) -> None:
        self._store = store
        self._left = number
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _WRITES:
            return method

        def write(*args: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._kind == "before":
                raise _Interrupted
            if self._left == 0 and self._kind == "half" and name == "append":
                method(args[0][: len(args[0]) // 2])
                raise _Interrupted
            result = method(*args)
            if self._left == 0:
                raise _Interrupted
            return result

        return write


@pytest.mark.parametrize("kind", ["before", "half", "after"])
def test_an_interruption_at_any_write(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portable_core.sync.repair._LEASE_MS", SHORT)
    number, completed = 0, False
    base = 0
    while not completed:
        number += 1
        store = place.connect()
        store.open(ALGORITHM)
        # Another time for each attempt, so that all of them can use one database.
        base += 10 * DAY
        now = NOW + base
        right = [make(r.pair.timestamp + base, 10_000 * number + r.pair.hash) for r in RIGHT]
        ahead = [make(now + YEAR + n, 10_000 * number + 1_000 + n) for n in range(6)]
        before = read_all(store)
        store.append([*right, *ahead])
        store.raise_mark(HORIZON_MARK, now + YEAR + 100)
        lease = store.acquire_lease("a", now, 10_000)
        store.save_slave(lease, "s", SlaveState(now, "store", 3))
        store.release_lease(lease)
        generation = store.info().generation
        interrupted = cast(RepairableStore, InterruptedStore(store, number, kind))
        try:
            Repair(interrupted, now, SPAN).run()
            completed = True
        except _Interrupted:
            let_expire(store)
            store.close()
            store = place.connect()
            store.open(ALGORITHM)
            Repair(cast(RepairableStore, store), now + 5_000, SPAN).run()
        after = read_all(store)
        assert count(after) == count([*before, *right, *ahead]), (kind, number)
        assert max(record.pair.timestamp for record in after) <= now + 20_000
        assert store.mark(HORIZON_MARK) <= now + 20_001
        assert store.info().generation > generation
        assert store.slave_states()["s"].cursor == 0
        assert not store.marks("repair-")
        store.close()
    assert number > 8
