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


class FolderWatch:
    """Remembers how the folder was when it was listed. To be used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed_at = self._cost_s = 0.0
        #: The folder's state, if it would reveal a later change.
        self._listed_as: tuple[int, ...] = ()

    def may_have_changed(self) -> bool:
        """Return whether the folder is to be listed now. Raise ``StoreError``."""
        age = time.monotonic() - self._listed_at
        if age >= _LIST_INTERVAL_S:
            return True
        if age < self._cost_s / _LIST_SHARE:
            return False
        return not self._listed_as or self._read() != self._listed_as

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Note that the ``with`` block lists the folder, if it succeeds. Raise ``StoreError``."""
        started = time.monotonic()
        folder = self._read()
        recent = is_recent(folder[-1])  # then a later change may not show in the mtime
        yield
        self._listed_at = time.monotonic()
        self._cost_s = self._listed_at - started
        self._listed_as = () if recent else folder

    def _read(self) -> tuple[int, int, int]:
        """Return device, inode and mtime of the folder."""
        try:
            stat = os.stat(self._folder)
        except OSError as error:
            raise translate_error(error, str(self._folder)) from error
        return stat.st_dev, stat.st_ino, stat.st_mtime_ns
