"""Whether the entries of a folder may have changed, without listing them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.adapters.sqlite.files import is_recent, translate_error

#: The folder is listed at least this often, in seconds.
_LIST_INTERVAL_S = 600.0

#: The most of the time for which it is listed.
_LIST_SHARE = 0.05


#: Device, inode, mtime and ctime of a folder.
FolderState = tuple[int, int, int, int]


def read_folder_state(folder: Path | str) -> FolderState:
    """Return what changes whenever an entry is created, renamed or removed. Raise ``StoreError``.

    The ctime is part of it because programs that copy a folder set the mtime.
    """
    try:
        stat = os.stat(folder)
    except OSError as error:
        raise translate_error(error, str(folder)) from error
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def reveals_changes(state: FolderState) -> bool:
    """Return whether a folder that had this state just now will have another one after a change.

    It may not if its times are recent: a file system's times have a resolution.
    """
    return not any(is_recent(time_ns) for time_ns in state[-2:])


class FolderWatch:
    """Remembers how the folder was when it was listed. To be used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed_at = self._cost_s = 0.0
        #: The folder's state, if it would reveal a later change.
        self._listed_as: FolderState | None = None

    def may_have_changed(self) -> bool:
        """Return whether the folder is to be listed now. Raise ``StoreError``."""
        age = time.monotonic() - self._listed_at
        if age >= _LIST_INTERVAL_S:
            return True
        if age < self._cost_s / _LIST_SHARE:
            return False
        return self._listed_as is None or read_folder_state(self._folder) != self._listed_as

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Note that the ``with`` block lists the folder, if it succeeds. Raise ``StoreError``."""
        started = time.monotonic()
        state = read_folder_state(self._folder)
        listed_as = state if reveals_changes(state) else None
        yield
        self._listed_at = time.monotonic()
        self._cost_s = self._listed_at - started
        self._listed_as = listed_as
