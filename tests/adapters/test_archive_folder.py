"""An archive: exact lines, whole stretches, and damage that is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.archive_folder import MANIFEST_NAME, ArchiveFolder
from portable_core.errors import SettingsError, StoreDamaged, StoreError
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.webhooks.archived import (
    DAY_MS,
    ArchiveManifest,
    decode_archived,
    encode_archived,
    split_days,
)
from tests.support.laws.payloads import payloads, randoms, spell
from tests.support.stores.samples import DAY, NOON, make_records

EMPTY = ArchiveManifest("store", "crc32c")
PAYLOADS = [
    b"",
    b"{}",
    b'{"a": 12.0}',
    b'{"a":1}\n',
    b'{"a":\r\n1}',
    b' {"a":1}',
    b"\xff\x00",
    b'{"a":1,"a":2}',
    b"a=1&b=2",
    b'{"s":"\xc3\xa9"}',
    b"[1]",
    b"null",
    b'"x"',
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_line_carries_a_record_whole(payload: bytes) -> None:
    meta = Meta("shop", {"x-a": "b\xff"}, "q=1", "k" * 32, "rule", "via")
    for record in (
        Record(Pair(1, 2), payload),
        Record(Pair(1, 2), payload, meta, Recovery("s", 5)),
    ):
        line = encode_archived(record)
        assert line.count(b"\n") == 1
        assert decode_archived(line) == record


@given(st.builds(spell, payloads(), randoms()) | st.binary(max_size=50))
def test_every_payload_is_carried_exactly(payload: bytes) -> None:
    record = Record(Pair(1, 2), payload)
    assert decode_archived(encode_archived(record)) == record


def test_days_are_split_at_midnight() -> None:
    assert split_days(5, 5) == split_days(7, 5) == []
    assert split_days(5, DAY_MS) == [(5, DAY_MS)]
    assert split_days(5, 2 * DAY_MS + 1) == [
        (5, DAY_MS),
        (DAY_MS, 2 * DAY_MS),
        (2 * DAY_MS, 2 * DAY_MS + 1),
    ]


def write(folder: Path, count: int = 5) -> tuple[ArchiveFolder, ArchiveManifest]:
    archive = ArchiveFolder(folder)
    with archive.hold():
        manifest, _ = archive.write(EMPTY, NOON, NOON + DAY, make_records(count))
    return archive, manifest


def test_a_stretch_is_written_once_and_read_back(tmp_path: Path) -> None:
    archive, manifest = write(tmp_path / "a")
    (stretch,) = manifest.stretches
    assert [record for record, _ in archive.read(stretch)] == make_records(5)
    with archive.hold():
        again, same = archive.write(manifest, NOON, NOON + DAY, make_records(5))
        assert (again, same) == (manifest, stretch)
        more, other = archive.write(manifest, NOON, NOON + DAY, make_records(6))
    assert other.file != stretch.file
    assert archive.require_manifest() == more
    assert sorted(os.listdir(tmp_path / "a")) == sorted(
        [MANIFEST_NAME, "lock", stretch.file, other.file]
    )
    assert (tmp_path / "a" / stretch.file).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "swapped"])
def test_a_damaged_file_is_noticed_before_a_record_is_read(tmp_path: Path, damage: str) -> None:
    archive, manifest = write(tmp_path)
    (stretch,) = manifest.stretches
    path = tmp_path / stretch.file
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "missing":
        path.unlink()
    else:
        other, more = write(tmp_path / "other", 6)
        path.write_bytes((other.path / more.stretches[0].file).read_bytes())
    with pytest.raises(StoreDamaged, match="Restore it from a backup"):
        next(archive.read(stretch))


def test_an_interruption_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    archive, manifest = write(tmp_path)

    def break_off() -> object:
        yield from make_records(3)
        raise StoreError("cut")

    with archive.hold(), pytest.raises(StoreError, match="cut"):
        archive.write(manifest, NOON, NOON + DAY, break_off())  # type: ignore[arg-type]
    assert archive.require_manifest() == manifest
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("step", ["replace", "_sync_folder"])
def test_a_crash_while_writing_leaves_whole_stretches_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    archive, manifest = write(tmp_path)

    def crash(*_: object) -> None:
        raise OSError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "replace" else archive, step, crash)
        with pytest.raises(OSError, match="crash"):
            archive.write(manifest, NOON, NOON + DAY, make_records(6))
    assert archive.require_manifest() == manifest
    archive.verify(manifest.stretches[0])
    with archive.hold():
        more, stretch = archive.write(manifest, NOON, NOON + DAY, make_records(6))
    assert stretch in archive.require_manifest().stretches
    assert len(more.stretches) == 2


def test_a_record_is_erased_from_all_files(tmp_path: Path) -> None:
    archive, manifest = write(tmp_path)
    before = [stretch.file for stretch in manifest.stretches]
    gone = make_records(5)[3]
    assert archive.erase(gone.pair) == gone.meta.key
    assert archive.erase(gone.pair) is None
    (stretch,) = archive.require_manifest().stretches
    assert [record for record, _ in archive.read(stretch)] == [
        record for record in make_records(5) if record != gone
    ]
    assert not (tmp_path / before[0]).exists()


def test_an_archive_belongs_to_one_store_and_one_command(tmp_path: Path) -> None:
    archive, manifest = write(tmp_path)
    assert archive.open_for("store", "crc32c") == manifest
    for store, algorithm in (("other", "crc32c"), ("store", "blake2b")):
        with pytest.raises(SettingsError, match="Use another folder"):
            archive.open_for(store, algorithm)
    with archive.hold(), pytest.raises(StoreError, match="another command"):  # noqa: SIM117
        with ArchiveFolder(tmp_path).hold():
            pass
    (tmp_path / MANIFEST_NAME).write_bytes(b"{")
    with pytest.raises(StoreDamaged):
        archive.require_manifest()
