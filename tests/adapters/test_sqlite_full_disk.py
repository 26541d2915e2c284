"""A full disk: an error in bounded time, and normal operation afterwards."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import StoreError
from portable_core.records import Record
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.small_disks import mount_small_disk
from tests.support.stores.sqlite_folders import ALL, opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mount_small_disk(tmp_path / "disk") as path:
        yield path


def make_noise(start: int, size: int = 2000) -> list[Record]:
    noise = random.Random(start)
    return [make_record(start + i, i, noise.randbytes(size)) for i in range(20)]


def fill_disk(store: SqliteStore, start: int) -> list[Record]:
    """Append until the disk is full; return the confirmed records."""
    confirmed: list[Record] = []

    def append_for_ever() -> None:
        while True:
            batch = make_noise(start + len(confirmed))
            store.append(batch, 10)
            confirmed.extend(batch)

    with pytest.raises(StoreError, match=r"disk is full\. Free some space"):
        append_for_ever()
    return confirmed


def test_a_full_disk_and_back(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(8_000_000))
    with opened(small_disk / "store") as store:
        confirmed = fill_disk(store, NOON)
        assert len(confirmed) > 100
        for _ in range(3):  # it stays full, and nothing hangs
            with pytest.raises(StoreError, match="full"):
                store.append(make_noise(NOON - 1000))
            with pytest.raises(StoreError, match="full"):
                store.check()
        with pytest.raises(StoreError, match="full"):
            store.append(make_noise(NOON + HOUR))  # that would be a new file
        assert list(store.records(*ALL)) == confirmed
        assert store.status().damaged == ()
        ballast.unlink()
        store.check()
        store.append(make_noise(NOON - 1000))
        store.append(make_records(5, NOON + HOUR))
        whole = [*make_noise(NOON - 1000), *confirmed, *make_records(5, NOON + HOUR)]
        assert list(store.records(*ALL)) == whole
    with opened(small_disk / "store") as store:
        assert list(store.records(*ALL)) == whole
        assert store.status().damaged == ()


def test_a_batch_that_does_not_fit(small_disk: Path) -> None:
    """The disk is full in the middle of a commit."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6_500_000))
    with opened(small_disk / "store") as store:
        store.append(make_records(50, NOON - 1000))
        with pytest.raises(StoreError, match="full"):
            store.append(make_noise(NOON, 400_000))
        assert list(store.records(*ALL)) == make_records(50, NOON - 1000)
        ballast.unlink()
        store.append(make_noise(NOON))
        assert list(store.records(*ALL)) == [*make_records(50, NOON - 1000), *make_noise(NOON)]
        assert store.status().damaged == ()


def test_starting_on_a_full_disk(small_disk: Path) -> None:
    with opened(small_disk / "store") as store:
        store.append(make_records(50))
        before = store.info()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1000))
    for _ in range(3):
        with pytest.raises(StoreError, match=r"full|space"), opened(small_disk / "store") as store:
            store.check()
    ballast.unlink()
    with opened(small_disk / "store") as store:
        store.check()
        assert list(store.records(*ALL)) == make_records(50)
        assert store.info() == before
        assert store.status().damaged == ()


def test_the_check_fails_while_every_append_does(tmp_path: Path) -> None:
    """Where a file may not grow, a page would still find a place in the write-ahead log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path) as store:
        for number in range(10):
            store.append(make_noise(NOON + 100 * number))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            for _ in range(4):
                with pytest.raises(StoreError) as refused:
                    store.append(make_noise(NOON + HOUR // 4, 100_000))
                with pytest.raises(StoreError) as reported:
                    store.check()
                assert str(reported.value) == str(refused.value)
                time.sleep(0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        store.append(make_noise(NOON + HOUR // 4))
        store.check()
