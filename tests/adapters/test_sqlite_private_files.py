"""Folders and files of a store: no other user has access, whatever the umask of the process."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.files import LOCK_NAME, PID_NAME, STATE_NAME
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import ALGORITHM

#: Print the files of a folder that another user can open. (The folders above may be closed to it.)
OPEN_AS_ANOTHER_USER = """
import os, sys
folder = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
os.setgroups([]), os.setgid(65534), os.setuid(65534)
for name in os.listdir(folder):
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            os.open(name, flags, dir_fd=folder)
        except PermissionError:
            continue
        print(name)
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def read_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read_modes(folder: Path) -> dict[str, int]:
    return {path.name: read_mode(path) for path in folder.iterdir()}


def use(folder: Path) -> dict[str, int]:
    """Write records of two hours; return the modes of all files, those of an open store too."""
    store = SqliteStore(folder)
    store.open(ALGORITHM)
    store.append([make_record(NOON, 1)])
    store.append([make_record(NOON + HOUR, 2)])
    modes = read_modes(folder)
    store.close()
    return {**modes, **read_modes(folder)}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_a_store_is_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "data" / "slave"
    with umask(mask):
        modes = use(folder)
    assert {LOCK_NAME, PID_NAME, STATE_NAME, f"{STATE_NAME}-wal", f"{STATE_NAME}-shm"} <= set(modes)
    assert len([name for name in modes if name.endswith(".sqlite3")]) == 3
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == {}
    assert (read_mode(folder), read_mode(folder.parent)) == (0o700, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_neither_reads_nor_locks_it(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o755)  # made by the operator: files in it are private all the same
    with umask(0):
        names = use(folder)
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AS_ANOTHER_USER, folder], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert names


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o2770, 0o660), (0o2750, 0o640)])
def test_a_folder_with_the_setgid_bit_is_shared_with_its_group(
    tmp_path: Path, folder_mode: int, file_mode: int
) -> None:
    """Kubernetes gives a volume mode 2775 and the group of ``fsGroup``."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(folder_mode | 0o005)
    with umask(0o022):
        assert set(use(volume).values()) == {file_mode}
        assert set(use(volume / "node").values()) == {file_mode}
    assert read_mode(volume / "node") == folder_mode


# -- stores that exist -----------------------------------------------------------------------------


def widen(folder: Path, folder_mode: int, file_mode: int) -> None:
    use(folder)
    folder.chmod(folder_mode)
    for path in folder.iterdir():
        path.chmod(file_mode)


def open_and_read_warnings(folder: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    store = SqliteStore(folder)
    store.open(ALGORITHM)
    store.info()
    store.close()
    return [
        record.message
        for record in caplog.records
        if record.levelno == logging.WARNING and "chmod" in record.message
    ]


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "command"),
    [
        (0o755, 0o644, "chmod go-rwx"),
        (0o750, 0o640, "chmod go-rwx"),
        (0o777, 0o600, "chmod go-rwx"),
        (0o2775, 0o664, "chmod o-rwx"),
    ],
)
def test_a_store_that_other_users_can_read_is_named_once_a_start_and_stays_as_it_is(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    folder_mode: int,
    file_mode: int,
    command: str,
) -> None:
    folder = tmp_path / "store"
    widen(folder, folder_mode, file_mode)
    (warning,) = open_and_read_warnings(folder, caplog)
    assert warning.startswith(str(folder))
    assert warning.endswith(f"{command} {folder}")
    assert read_mode(folder) == folder_mode
    assert read_mode(folder / STATE_NAME) == file_mode
    subprocess.run([*command.split(), folder], check=True)
    assert open_and_read_warnings(folder, caplog) == []


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"),
    [
        (0o700, 0o644),  # nobody else gets into the folder
        (0o755, 0o600),  # other users see names, and nothing else
        (0o1777, 0o600),
        (0o2770, 0o660),
        (0o2775, 0o660),  # a volume of Kubernetes
    ],
)
def test_a_store_that_others_cannot_read_is_not_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder_mode: int, file_mode: int
) -> None:
    folder = tmp_path / "store"
    widen(folder, folder_mode, file_mode)
    (folder / "notes.txt").touch()
    (folder / "notes.txt").chmod(0o644)
    assert open_and_read_warnings(folder, caplog) == []
