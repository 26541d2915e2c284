"""The lock that makes one process the writer of a folder.

Its file is also the witness of copies and restored backups. Nobody ever changes it, and no tool can
set a ctime: where its inode and ctime are not those that the state remembers, some other hand was
here. (Inodes alone would not do: ext4 gives a new file the number of one that was just removed.)
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from portable_core.adapters.sqlite.files import LOCK_NAME, PID_NAME, translate_error
from portable_core.errors import StoreError, StoreLocked

_POLL_S = 0.02


class FolderLock:
    """``flock`` on a file; the kernel drops it with the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._pid_path = folder / PID_NAME
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self, wait_s: float) -> None:
        """Wait for the lock up to ``wait_s``. Raises ``StoreLocked`` naming the owner's pid."""
        until = time.monotonic() + wait_s
        while not self._try_acquire():
            if time.monotonic() >= until:
                raise StoreLocked(
                    f"{self._path.parent} is being written by process {self._read_owner()}; "
                    "stop it, or wait until it has ended: this one takes over then"
                )
            time.sleep(_POLL_S)

    def _try_acquire(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise translate_error(error, str(self._path)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_current(descriptor):
                os.close(descriptor)  # removed by somebody between opening and locking
                return False
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise translate_error(error, str(self._path)) from error
        self._descriptor = descriptor
        self._write_pid()
        return True

    def _is_current(self, descriptor: int) -> bool:
        """Whether the locked file is still the one that others would lock."""
        try:
            return os.stat(self._path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            return False

    def _read_owner(self) -> str:
        try:
            return self._pid_path.read_text("ascii").strip() or "unknown"
        except (OSError, ValueError):
            return "unknown"

    def read_witness(self) -> list[int]:
        """The file's inode and ctime, while the lock is held."""
        if self._descriptor is None:
            return []
        stat = os.fstat(self._descriptor)
        return [stat.st_ino, stat.st_ctime_ns]

    def _write_pid(self) -> None:
        """Tell those who wait whom they wait for."""
        with suppress(OSError):  # on a full disk they wait for somebody unknown
            self._pid_path.write_text(f"{os.getpid()}\n", "ascii")

    def check(self) -> None:
        """Raise ``StoreError`` if the lock does not protect the folder any more."""
        if self._descriptor is None or not self._is_current(self._descriptor):
            raise StoreError(
                f"{self._path} was removed or replaced while it was in use, perhaps the whole "
                "folder; restart this process to go on with what is there now"
            )

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
