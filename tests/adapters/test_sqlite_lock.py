"""One writer per folder: the next one waits for its end; readers need no lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import SettingsError, StoreError, StoreLocked
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_child import BATCH
from tests.support.stores.sqlite_folders import ALGORITHM, ALL, fill, opened, read_timestamps


@contextmanager
def child(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.stores.sqlite_child", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_writer_gets_the_pid_of_the_first(tmp_path: Path) -> None:
    with child("hold", tmp_path) as process:
        assert read_line(process) == "open"
        store = SqliteStore(tmp_path, lock_wait_s=0.1)
        for _ in range(2):
            with pytest.raises(StoreLocked, match=rf"process {process.pid}\."):
                store.open(ALGORITHM)
        with pytest.raises(StoreError):
            store.append(make_records(1))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        store.open(ALGORITHM)
        store.append(make_records(1))
        store.close()


def test_a_second_process_takes_over_when_the_first_ends(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path)
    first.open(ALGORITHM)
    first.append([make_record(NOON, 1)])
    with child("wait", tmp_path) as process:
        assert read_line(process) == "locked"
        first.append([make_record(NOON, 2)])
        first.close()
        lines = [read_line(process)]
        while lines[-1] == "locked":
            lines.append(read_line(process))
        assert lines[-1] == "open"
        assert read_line(process) == "done"
        assert process.wait() == 0
    with opened(tmp_path) as store:
        assert read_timestamps(store) == [NOON, NOON, NOON + 1]


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    with child("hold", tmp_path) as process:
        assert read_line(process) == "open"
        process.kill()
        process.wait()
        with opened(tmp_path) as store:
            store.append(make_records(3))


def test_opening_waits_for_the_lock(tmp_path: Path) -> None:
    with child("hold", tmp_path) as process:
        assert read_line(process) == "open"
        store = SqliteStore(tmp_path, lock_wait_s=100)
        assert process.stdin is not None
        process.stdin.close()
        store.open(ALGORITHM)
        store.close()


def test_two_stores_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreLocked, match=str(os.getpid())):
        SqliteStore(tmp_path, lock_wait_s=0).open(ALGORITHM)


def test_nothing_happens_before_open(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_fork_does_not_share_the_store(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(make_records(1))
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:  # the child must not run anything of pytest
            try:
                for use in (lambda: store.append(make_records(2)), lambda: store.open(ALGORITHM)):
                    try:
                        use()
                    except StoreError as error:
                        os.write(writing, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(pid, 0)
        used, opened_again = os.read(reading, 1000).decode().splitlines()
        os.close(reading)
        assert "before a fork" in used
        assert opened_again.startswith("StoreLocked")
        assert f"process {os.getpid()}." in opened_again
        store.append(make_records(3))
        assert len(read_timestamps(store)) == 3


@pytest.mark.parametrize("what", ["lock", "state.sqlite3", "everything"])
def test_a_removed_folder_accepts_no_more_records(
    tmp_path: Path, age: Callable[[SqliteStore], None], what: str
) -> None:
    """A record written into a removed file would be confirmed and lost."""
    folder = tmp_path / "store"
    with opened(folder) as store:
        store.append(make_records(1))
        age(store)
        if what == "everything":
            shutil.rmtree(folder)
        else:
            (folder / what).unlink()
        with pytest.raises(StoreError):
            store.check()
        with pytest.raises(StoreError):
            store.append(make_records(1))
        with pytest.raises(StoreError):
            store.append(make_records(1, NOON + HOUR))
    with opened(folder) as store:
        store.append(make_records(2))
        assert read_timestamps(store)[-1] == NOON + 10


# -- reading beside a writer -----------------------------------------------------------------------


def test_another_process_reads_while_one_writes(tmp_path: Path) -> None:
    with child("append", tmp_path, NOON) as process:
        confirmed = [int(read_line(process))]
        reader = SqliteStore(tmp_path, read_only=True)
        reader.open(ALGORITHM)
        seen = 0
        for _ in range(15):
            confirmed += [int(read_line(process)) for _ in range(5)]
            got = read_timestamps(reader)
            assert got == sorted(set(got))
            assert set(confirmed) <= set(got)
            assert len(got) >= seen
            last = reader.last()
            assert last is not None
            assert last >= got[-1]
            assert reader.first() == NOON
            seen = len(got)
            assert [r.pair.timestamp for r in reader.records(got[3], got[-1])] == got[3:-1]
        assert seen >= 75 * BATCH
        process.kill()
        process.wait()
        assert set(confirmed) <= set(read_timestamps(reader))
        with opened(tmp_path) as store:
            assert read_timestamps(store) == read_timestamps(reader)
        reader.close()


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(make_records(5))
        reader = SqliteStore(tmp_path, read_only=True)
        assert reader.open("") == writer.info()
        lease = writer.acquire_lease("a", NOON, 5)
        for write in (
            lambda: reader.append(make_records(1)),
            lambda: reader.save_records(lease, make_records(1)),
            lambda: reader.raise_mark("a", 1),
            lambda: reader.acquire_lease("a", NOON, 5),
            lambda: reader.prune(NOON * 2),
            lambda: reader.prune_to_size(1),
            lambda: reader.check(),
        ):
            with pytest.raises(StoreError):
                write()
        assert list(reader.records(*ALL)) == make_records(5)
        assert reader.status().records == 5
        reader.close()
        with pytest.raises(StoreError):
            list(reader.pairs(*ALL))


def test_a_reader_skips_damaged_files(tmp_path: Path) -> None:
    fill(tmp_path, [*make_records(5), *make_records(5, NOON + HOUR)])
    path = next(tmp_path.glob("0*.sqlite3"))
    path.write_bytes(b"?" * 5000)
    state = (tmp_path / "state.sqlite3").read_bytes()
    reader = SqliteStore(tmp_path, read_only=True)
    reader.open(ALGORITHM)
    assert len(read_timestamps(reader)) == 5
    assert [damage.name for damage in reader.status().damaged] == [path.name]
    reader.close()
    assert (tmp_path / "state.sqlite3").read_bytes() == state


def test_a_reader_of_an_empty_folder_fails(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        SqliteStore(tmp_path / "store", read_only=True).open(ALGORITHM)
    assert not (tmp_path / "store").exists()
    fill(tmp_path / "store", make_records(1))
    with pytest.raises(SettingsError):
        SqliteStore(tmp_path / "store", read_only=True).open("blake2b-1")
