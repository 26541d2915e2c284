"""The lock that makes one process the writer of a folder."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from portable_core.adapters.sqlite.files import LOCK_NAME, PID_NAME, translate_error
from portable_core.adapters.sqlite.private_files import make_file
from portable_core.errors import StoreError, StoreLocked

_POLL_S = 0.02


class FolderLock:
    """``flock`` on a file; the kernel releases it when the holding process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._pid_path = folder / PID_NAME
        self._descriptor: int | None = None
        self._inode = 0

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self, wait_s: float) -> None:
        """Wait for the lock up to ``wait_s``. Raise ``StoreLocked`` with the owner's pid."""
        until = time.monotonic() + wait_s
        while not self._try_acquire():
            if time.monotonic() >= until:
                raise StoreLocked(
                    f"{self._path.parent} is being written by process {self._read_owner()}. "
                    "Stop that process, or wait until it ends; this one then continues."
                )
            time.sleep(_POLL_S)

    def _try_acquire(self) -> bool:
        try:
            make_file(self._path)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise translate_error(error, str(self._path)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._inode = os.fstat(descriptor).st_ino
            if not self._is_current():
                os.close(descriptor)  # removed between opening and locking
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

    def _is_current(self) -> bool:
        """Return whether the locked file is still the one that other processes would lock."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _read_owner(self) -> str:
        try:
            return self._pid_path.read_text("ascii").strip() or "unknown"
        except (OSError, ValueError):
            return "unknown"

    def _write_pid(self) -> None:
        """Write this process's pid, for the error message of waiting processes."""
        with suppress(OSError):  # on a full disk their message names no pid
            make_file(self._pid_path)
            self._pid_path.write_text(f"{os.getpid()}\n", "ascii")

    def check(self) -> None:
        """Raise ``StoreError`` if the lock no longer protects the folder."""
        if self._descriptor is None or not self._is_current():
            raise StoreError(
                f"{self._path} was removed or replaced while in use, perhaps with the whole "
                "folder. Restart this process to use the folder as it is now."
            )

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
