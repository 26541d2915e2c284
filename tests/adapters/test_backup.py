"""Backups of a SQLite store: consistent, incremental, and restored as a new epoch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portable_core.adapters.sqlite.backup import Backup, BackupReport
from portable_core.adapters.sqlite.files import RESTORING_NAME, STATE_NAME
from portable_core.adapters.sqlite.manifest import MANIFEST_NAME, read_manifest
from portable_core.adapters.sqlite.preview import check_folder
from portable_core.adapters.sqlite.restore import Restore, check_backup
from portable_core.errors import SettingsError, StoreDamaged, StoreError, StoreLocked
from portable_core.ports import ConsumerState
from portable_core.records import MAX_INTEGER, Record
from portable_core.sync.resuming import EARLIER_STORE
from tests.support.stores.disk_images import DiskImage
from tests.support.stores.disk_rig import DiskRig, names
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_damages import overwrite
from tests.support.stores.sqlite_folders import (
    ALGORITHM,
    fill,
    list_data_files,
    list_pairs,
    opened,
    read_file_rows,
    read_timestamps,
    wait_until_checked,
)

HOURS = 4


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a file for each of some hours, written long ago."""
    folder = tmp_path / "store"
    fill(folder, [record for hour in range(HOURS) for record in records_of(hour)])
    let_age(folder)
    with opened(folder) as reopened:
        wait_until_checked(reopened)
    return folder


def records_of(hour: int) -> list[Record]:
    return make_records(5, NOON + hour * HOUR)


def let_age(folder: Path) -> None:
    """Give the files of a closed store times at which a later change would show."""
    for path in list_data_files(folder):
        os.utime(path, (time.time() - 60, time.time() - 60))


def back_up(store: Path, on_step: Callable[[str], object] = lambda name: None) -> BackupReport:
    return Backup(store, store.parent / "backup", on_step=on_step).run()


def restore(store: Path, name: str = "restored") -> Path:
    Restore(store.parent / "backup", store.parent / name).run()
    return store.parent / name


def read(folder: Path) -> list[int]:
    with opened(folder) as store:
        assert store.losses() == []
        return read_timestamps(store)


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["slave", "master"])
def test_a_backup_claims_nothing_that_it_lacks(tmp_path: Path, role: str) -> None:
    """The node receives and syncs before each database is copied, in new files and old ones."""
    rig = DiskRig(tmp_path)
    for _ in range(2):
        rig.run_and_sync()
        rig.clock.sleep(HOUR // 1000)
    backup = tmp_path / "backup"
    steps = []

    def receive_and_sync(name: str) -> None:
        let_age(tmp_path / role)
        rig.run_and_sync(2)
        rig.clock.sleep(60)
        steps.append(name)

    Backup(tmp_path / role, backup, on_step=receive_and_sync).run()
    assert len(steps) > 4
    acknowledged = list(rig.acknowledged)
    Restore(backup, tmp_path / "restored").run()
    DiskImage.take(tmp_path / "restored").put_back(rig.path / role)
    with rig.slave() as slave, rig.master(slave) as master:
        if role == "master":
            cursor = master.slave_states()["s"].cursor or 0
            there = set(master.receiver.store.pairs(0, MAX_INTEGER))
            assert cursor > acknowledged[5].timestamp
            assert [p for p in acknowledged if p.timestamp < cursor and p not in there] == []
        else:
            horizons = slave.receiver.store.marks("horizon").values()
            there = set(slave.receiver.store.pairs(0, MAX_INTEGER))
            assert [p for p in acknowledged if p.timestamp < max(horizons) and p not in there] == []
            assert slave.receiver.store.losses() == []
    report = rig.run_and_sync()
    assert report.losses == (1 if role == "slave" else 0)
    assert rig.find_unnamed() == []


def test_a_file_that_retention_removes_meanwhile(store: Path) -> None:
    before = read(store)

    def prune(name: str) -> None:
        if name == list_data_files(store)[0].name:
            with opened(store) as live:
                live.prune(NOON + HOUR)

    back_up(store, prune)
    assert read(restore(store)) == read(store) == before[5:]


# -- copies ----------------------------------------------------------------------------------------


def test_only_what_has_changed_is_copied_again(store: Path) -> None:
    first = back_up(store)
    assert (first.files, first.copied) == (HOURS + 1, HOURS + 1)
    second = back_up(store)
    assert (second.files, second.copied) == (HOURS + 1, 1)  # the state
    with opened(store) as live:
        live.append(make_records(3, NOON + HOUR + 1_000))  # late, into a file that was closed
        live.append(make_records(3, NOON + HOURS * HOUR))
    third = back_up(store)
    assert (third.files, third.copied) == (HOURS + 2, 3)
    assert read(restore(store)) == read(store)


def test_a_change_that_keeps_size_and_inode_is_copied(store: Path) -> None:
    back_up(store)
    path = list_data_files(store)[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert back_up(store).copied >= 2
    copies = {copy.name: copy for copy in read_manifest(store.parent / "backup").copies}
    copy = store.parent / "backup" / copies[path.name].file
    assert copy.read_bytes()[-100:] == content[-100:]


def test_an_interrupted_backup_leaves_the_one_before(store: Path) -> None:
    backup = store.parent / "backup"
    back_up(store)
    before = read(store)

    class Killed(BaseException):
        """Ends a backup as a crash does."""

    for survived in range(1, 4):
        with opened(store) as live:
            for hour in range(HOURS):
                live.append([make_record(NOON + hour * HOUR + 2_000 + survived, survived)])
        left = survived

        def interrupt(name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        with pytest.raises(Killed):
            back_up(store, interrupt)
        check_backup(backup)
        assert read(restore(store, f"restored-{survived}")) == before
    back_up(store)
    assert read(restore(store)) == read(store)
    kept = {copy.file for copy in read_manifest(backup).copies}
    assert {path.name for path in backup.iterdir()} == kept | {MANIFEST_NAME, "lock"}


def test_a_file_damaged_in_the_store_keeps_its_earlier_copy(store: Path) -> None:
    before = read(store)
    back_up(store)
    overwrite(list_data_files(store)[1])
    with opened(store) as live:
        assert len(read_timestamps(live)) == len(before) - 5
    report = back_up(store)
    assert [text.split(":")[0] for text in report.damaged] == [list_data_files(store)[1].name]
    assert read(restore(store)) == before


def test_two_backups_at_once(store: Path) -> None:
    def back_up_again(name: str) -> None:
        with pytest.raises(StoreLocked, match="in use by another backup"):
            back_up(store)
        with pytest.raises(StoreLocked, match="in use by another backup"):
            restore(store)

    back_up(store, back_up_again)


@pytest.mark.parametrize("folder", ["store", "store/backup", "."])
def test_a_backup_inside_the_store_is_refused(store: Path, folder: str) -> None:
    with pytest.raises(SettingsError, match=r"DIR: .* share a folder"):
        Backup(store, store.parent / folder).run()
    with pytest.raises(SettingsError, match="there is no store"):
        Backup(store.parent / "elsewhere", store.parent / "backup").run()


# -- restoring -------------------------------------------------------------------------------------


def test_damaged_copies_are_not_restored(store: Path) -> None:
    back_up(store)
    backup = store.parent / "backup"
    for copy in read_manifest(backup).copies:
        path = backup / copy.file
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreDamaged, match=copy.file):
            check_backup(backup)
        with pytest.raises(StoreDamaged, match="its digest differs"):
            restore(store)
        with pytest.raises(StoreError, match="Run webhook-sync restore again"):
            read(store.parent / "restored")
        path.write_bytes(content)
    assert read(restore(store)) == read(store)  # where each of these restores had begun


def test_a_damaged_manifest(store: Path) -> None:
    back_up(store)
    path = store.parent / "backup" / MANIFEST_NAME
    document = json.loads(path.read_bytes())
    document["manifest"]["copies"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(StoreDamaged, match="its digest differs"):
        restore(store)
    back_up(store)  # a new one, of everything
    assert read(restore(store)) == read(store)


def test_a_target_with_files_is_refused(store: Path) -> None:
    back_up(store)
    target = store.parent / "target"
    target.mkdir()
    (target / "lost+found").mkdir()
    restore(store, "target")
    with pytest.raises(SettingsError, match=r"TARGET: .* is not empty"):
        restore(store, "target")
    assert read(target) == read(store)


def test_a_store_being_restored_is_not_opened(store: Path) -> None:
    back_up(store)
    target = restore(store)
    (target / RESTORING_NAME).touch()
    with pytest.raises(StoreError, match="a restore of this store is not complete"), opened(target):
        pass
    assert "Run webhook-sync restore again" in check_folder(str(target), ALGORITHM)[0][0]
    with opened(store), pytest.raises(SettingsError, match="is not empty"):
        restore(store, "store")


def test_a_restored_store_is_read_no_more_than_another(store: Path) -> None:
    """Closed files are known as they are; the one that was written reads as before."""
    with opened(store) as live:
        live.append(make_records(3, NOON + HOURS * HOUR))
        live.raise_mark("horizon", NOON + HOURS * HOUR + 1)
        back_up(store)  # beside the writer: the newest file has a log
    target = restore(store)
    rows = read_file_rows(target)
    found = {path.name: path.stat() for path in list_data_files(target)}
    known = [name for name, stat in found.items() if stat.st_mtime_ns in rows[name]["stamp"]]
    assert len(known) == HOURS
    with opened(target) as restored, opened(store) as original:
        assert restored.losses() == []
        assert restored.info().uuid == original.info().uuid
        assert restored.info().generation > original.info().generation
        assert list_pairs(list(restored.records(0, MAX_INTEGER))) == list_pairs(
            list(original.records(0, MAX_INTEGER))
        )
        wait_until_checked(restored)
        assert restored.losses() == []


# -- epochs and positions --------------------------------------------------------------------------


def test_a_restored_slave_is_noticed(tmp_path: Path) -> None:
    """Even if the master has seen nothing that the backup lacks."""
    rig = DiskRig(tmp_path)
    rig.run_and_sync()
    Backup(rig.disk, tmp_path / "backup").run()
    lost = rig.run()  # acknowledged, and never synced
    rig.disk.rename(tmp_path / "broken")
    Restore(tmp_path / "backup", rig.disk).run()
    report = rig.run_and_sync()
    assert (report.saved, report.losses) == (3, 1)
    (loss,) = rig.read_losses()
    assert loss.reason == EARLIER_STORE
    assert all(names((loss,), pair) for pair in lost)
    assert rig.find_unnamed() == []


def test_a_restored_master_fetches_what_came_after(tmp_path: Path) -> None:
    rig = DiskRig(tmp_path)
    rig.run_and_sync()
    Backup(tmp_path / "master", tmp_path / "backup").run()
    rig.run_and_sync()
    (tmp_path / "master").rename(tmp_path / "broken")
    Restore(tmp_path / "backup", tmp_path / "master").run()
    report = rig.run_and_sync(0)
    assert (report.saved, report.losses) == (3, 0)
    assert rig.find_unnamed() == []


def test_consumers_continue_at_their_positions(store: Path) -> None:
    with opened(store) as live:
        live.append([make_record(NOON + 4_000)])
        arrivals = list(live.arrivals())
        live.save_consumer("shop", ConsumerState(arrivals[7].position, 1))
        back_up(store)
        live.append(make_records(2, NOON + 5_000))
        later = live.newest_arrival()
    with opened(restore(store)) as restored:
        position = restored.consumers()["shop"].position
        rest = [arrival.record.pair for arrival in restored.arrivals(position)]
        assert rest == [arrival.record.pair for arrival in arrivals[8:]]
        restored.append(make_records(3, NOON + 7_000))  # another history begins
        new = [arrival.record.pair for arrival in restored.arrivals(later)]
        assert new == list_pairs(make_records(3, NOON + 7_000))


def test_the_state_of_forward_is_never_later_than_the_records(store: Path, tmp_path: Path) -> None:
    from portable_core.adapters.delivery_state import DeliveryFile
    from portable_core.webhooks.delivery_values import Changes

    inside, outside = store / "forward" / STATE_NAME, tmp_path / "elsewhere.sqlite3"
    inside.parent.mkdir()
    states = [DeliveryFile(path, exclusive=True) for path in (inside, outside)]

    def deliver(name: str) -> None:
        if not name.startswith("forward"):
            for state in states:
                state.write(Changes(position="later"))

    for state in states:
        state.write(Changes(position="p1"))
    Backup(store, tmp_path / "backup", forward_state=outside, on_step=deliver).run()
    target, place = tmp_path / "restored", tmp_path / "new" / "forward.sqlite3"
    report = Restore(tmp_path / "backup", target, forward_state=place).run()
    assert not report.forward_left
    assert Restore(tmp_path / "backup", tmp_path / "another").run().forward_left
    for path in (target / "forward" / STATE_NAME, place):
        assert DeliveryFile(path, exclusive=True).position == "p1"
    with pytest.raises(SettingsError, match="exists"):
        Restore(tmp_path / "backup", tmp_path / "third", forward_state=place).run()
