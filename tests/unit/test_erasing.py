"""A deleted webhook is gone on every node, and no sync brings it back."""

from __future__ import annotations

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.errors import NotFound, SlaveRefused
from portable_core.ports import Quarantined
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.sync.erasing import CANNOT_ERASE
from tests.unit.test_master_retention import HOUR, Rig

ALL = (0, MAX_INTEGER + 1)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(MemoryStore(), RETENTION_S="99999999")
    rig.receive(2)
    rig.sync()
    return rig


def delete(rig: Rig, number: int) -> Record:
    record = next(r for r in rig.store.records(*ALL) if r.payload == b'{"n":%d}' % number)
    assert rig.master.erasing.delete(record.pair).records == 1
    return record


def read_slave(rig: Rig, name: str = "a") -> list[bytes]:
    return [record.payload for record in rig.disks[name].records(*ALL)]


def test_it_is_gone_on_the_master_at_once_and_on_slaves_with_the_next_sync(rig: Rig) -> None:
    rig.master.receiver.receive(b'{"both":1}', Meta())
    rig.slaves["a"].receiver.receive(b'{"both":1}', Meta())
    rig.sync()
    both = next(r for r in rig.store.records(*ALL) if r.payload == b'{"both":1}')
    rig.master.erasing.delete(both.pair)
    delete(rig, 3)
    assert rig.read() == [b'{"n":1}', b'{"n":2}', b'{"n":4}']
    assert b'{"n":3}' in read_slave(rig)
    rig.sync()
    assert read_slave(rig) == [b'{"n":1}', b'{"n":2}', b'{"n":4}']
    rig.disks["a"].begin_generation()
    assert rig.sync()["a"].saved == 0
    assert len(rig.read()) == 3
    assert len(list(rig.disks["a"].pairs(*ALL))) == 5  # they stay represented on both


def test_deleting_again_is_the_same_and_an_unknown_id_is_an_error(rig: Rig) -> None:
    record = delete(rig, 1)
    assert rig.master.erasing.delete(record.pair).records == 0
    with pytest.raises(NotFound):
        rig.master.erasing.delete(Pair(5, 5))


def test_a_copy_that_comes_later_is_represented_by_the_tombstone(rig: Rig) -> None:
    delete(rig, 1)
    rig.add_slave("b")
    rig.slaves["b"].receiver.receive(b'{"n":1}', Meta())  # hours after the first one
    rig.slaves["b"].receiver.receive(b'{"n":99}', Meta())
    report = rig.sync()["b"]
    assert (report.saved, report.represented) == (1, 1)
    assert b'{"n":1}' not in rig.read()


def test_a_restored_slave_gets_all_tombstones_again(rig: Rig) -> None:
    old = list(rig.disks["a"].records(*ALL))
    delete(rig, 2)
    rig.sync()
    restored = MemoryStore()
    restored.open("crc32c")
    restored.append(old)
    rig.add_slave("a", restored)
    rig.sync()
    assert read_slave(rig) == [b'{"n":1}', b'{"n":3}', b'{"n":4}']


def test_a_record_with_the_same_hash_and_another_key_stays(rig: Rig) -> None:
    record = delete(rig, 2)
    twin = Record(Pair(record.pair.timestamp + 5, record.pair.hash), b"{}", Meta(key="other"))
    rig.disks["a"].append([twin])
    rig.sync()
    assert b"{}" in read_slave(rig)


def test_the_quarantine_is_searched_too(rig: Rig) -> None:
    pair = next(iter(rig.store.pairs(*ALL)))
    (record,) = rig.store.fetch([pair])
    lease = rig.store.acquire_lease("test", 0, 1)
    copies = [
        Record(Pair(5, 5), record.payload),
        Record(Pair(6, 6), b"[1]", Meta(key=record.meta.key)),
        Record(Pair(7, 7), b"[2]"),
    ]
    items = [Quarantined(str(n), "a", n, "bad", copy) for n, copy in enumerate(copies)]
    rig.store.save_quarantine(lease, items)
    rig.store.release_lease(lease)
    assert rig.master.erasing.delete(pair).quarantined == 2
    assert [item.id for item in rig.store.quarantine()] == ["2"]


def test_dead_letters_are_dropped_by_id_and_key(rig: Rig) -> None:
    asked: list[tuple[str, str]] = []

    def drop(id_: str, key: str) -> int:
        asked.append((id_, key))
        return 2

    rig.master.erasing._drop_dead_letters = drop
    record = delete(rig, 4)
    assert asked == [(f"{record.pair.timestamp}-{record.pair.hash}", record.meta.key)]


def test_a_slave_that_cannot_erase_is_a_warning_until_it_can(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(rig, 2)
    client = rig.master.clients["a"]

    def refuse(*arguments: object) -> None:
        raise SlaveRefused("a: answered 503", 503)

    with monkeypatch.context() as patch:
        patch.setattr(client, "erase", refuse)
        report = rig.sync()["a"]
        assert (report.ok, "503" in report.warning) == (True, True)
    describe = client.describe

    def describe_older(*arguments: object, **options: object) -> object:
        from msgspec.structs import replace

        return replace(describe(*arguments, **options), erases=False)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(client, "describe", describe_older)
        report = rig.sync()["a"]
        assert (report.warning, report.warning_type) == (CANNOT_ERASE, "CannotErase")
        assert b'{"n":2}' in read_slave(rig)
    assert rig.sync()["a"].warning == ""
    assert b'{"n":2}' not in read_slave(rig)


def test_what_was_deleted_does_not_wait_for_consumers(rig: Rig) -> None:
    rig.consumers.save("shop", "")
    for number in (1, 2, 3, 4):
        delete(rig, number)
    assert rig.consumers.describe_one("shop").lag_ms == 0
    assert rig.clock.now() > HOUR
