"""A master removes what was archived, and only that; an import brings it back, and no more."""

from __future__ import annotations

import pytest
from msgspec import structs

from portable_core.adapters.memory_store import MemoryStore
from portable_core.errors import BadRequest, Conflict, LeaseHeld
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.sync.archiving import ArchivedStretch, digest_pairs
from portable_core.sync.floor import read_floor
from tests.unit.test_master_retention import HOUR, SPAN, Rig

ALL = (0, MAX_INTEGER + 1)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(MemoryStore())
    rig.env = {}
    rig.start_master()
    rig.receive(8)
    rig.sync()
    return rig


def take_stretch(rig: Rig, before: int | None = None) -> ArchivedStretch:
    plan = rig.master.archiving.plan(rig.clock.now() if before is None else before)
    assert plan.start is not None
    count, pairs = digest_pairs(r.pair for r in rig.store.records(plan.start, plan.end))
    return ArchivedStretch(plan.start, plan.end, count, pairs)


def test_what_was_archived_is_removed_and_not_fetched_again(rig: Rig) -> None:
    stretch = take_stretch(rig)
    records = list(rig.store.records(stretch.start, stretch.end))
    assert len(records) >= 12
    assert rig.master.archiving.remove(stretch).removed == len(records)
    assert rig.master.archiving.remove(stretch).removed == 0
    assert read_floor(rig.store) == stretch.end + SPAN
    rig.disks["a"].begin_generation()
    assert rig.sync()["a"].saved == 0
    assert rig.master.archiving.bring_back(records).stored == len(records)
    assert rig.master.archiving.bring_back(records).present == len(records)
    assert list(rig.store.records(stretch.start, stretch.end)) == records


class GradualStore(MemoryStore):
    """Removes one record a call, as a store may."""

    def prune(self, before: int) -> int:
        (pair, *_) = [*self.pairs(0, before), Pair(before, 0)]
        return super().prune(min(pair.timestamp + 1, before))


def test_a_stretch_is_removed_whole_from_a_store_that_removes_by_parts() -> None:
    rig = Rig(GradualStore())
    rig.env = {}
    rig.start_master()
    rig.receive(8)
    rig.sync()
    stretch = take_stretch(rig)
    rig.master.archiving.remove(stretch)
    assert not list(rig.store.pairs(0, stretch.end))


def test_nothing_is_removed_that_the_archive_lacks(rig: Rig) -> None:
    stretch = take_stretch(rig)
    late = Record(Pair(stretch.start + 5, 5), b"{}")
    rig.store.append([late])
    with pytest.raises(Conflict, match="have changed since they were archived"):
        rig.master.archiving.remove(stretch)
    rig.store.append([Record(Pair(stretch.start - HOUR, 5), b"{}")])
    with pytest.raises(Conflict, match="Archive them first"):
        rig.master.archiving.remove(stretch)
    assert len(rig.read()) == 18


def test_an_erased_record_is_not_expected_in_the_archive(rig: Rig) -> None:
    pair = next(iter(rig.store.pairs(*ALL)))
    rig.master.erasing.delete(pair)
    stretch = take_stretch(rig)
    assert rig.master.archiving.remove(stretch).removed == stretch.records


def test_nothing_is_removed_that_a_consumer_or_a_slave_needs(rig: Rig) -> None:
    stretch = take_stretch(rig)
    rig.consumers.save("shop", "")
    rig.clock.sleep(365 * 86_400)  # however long it has not moved
    with pytest.raises(Conflict, match=r"still needed \(shop\)"):
        rig.master.archiving.remove(stretch)
    plan = rig.master.archiving.plan(stretch.end)
    assert plan.end <= stretch.start
    assert plan.waits["shop"].startswith("has got the records before")
    rig.consumers.delete("shop")
    rig.add_slave("b")
    with pytest.raises(Conflict, match=r"still needed \(b\)"):
        rig.master.archiving.remove(stretch)
    assert len(rig.read()) == 16


def test_a_stretch_has_whole_hours_and_waits_for_a_sync(rig: Rig) -> None:
    stretch = take_stretch(rig)
    with pytest.raises(BadRequest, match="whole hours"):
        rig.master.archiving.remove(ArchivedStretch(stretch.start, stretch.end - 1, 0, "0" * 64))
    with rig.master._turns.sync(), pytest.raises(LeaseHeld):
        rig.master.archiving.remove(stretch)


def test_an_import_leaves_out_what_was_deleted_and_rejects_what_is_forged(rig: Rig) -> None:
    stretch = take_stretch(rig)
    records = list(rig.store.records(stretch.start, stretch.end))
    rig.master.archiving.remove(stretch)
    rig.master.erasing.delete(records[1].pair, records[1].meta.key)
    rig.master.erasing.delete(records[2].pair, "")
    copy = structs.replace(
        records[1], pair=Pair(records[1].pair.timestamp + HOUR, records[1].pair.hash)
    )
    done = rig.master.archiving.bring_back([*records, copy])
    assert (done.stored, done.erased) == (len(records) - 2, 3)
    for forged in (
        structs.replace(records[0], payload=b'{"n":"forged"}'),
        structs.replace(records[0], meta=Meta(key="0" * 32)),
    ):
        with pytest.raises(BadRequest, match="import: "):
            rig.master.archiving.bring_back([forged])
    assert rig.master.archiving.bring_back([]).stored == 0
