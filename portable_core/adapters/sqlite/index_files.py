"""The files of the index for searches: where they are, and how many bytes they occupy."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from portable_core.adapters.sqlite.files import is_recent

#: The folder of the index, in that of the store.
FOLDER = "index"


def find_index_path(folder: Path, name: str) -> Path:
    """Return the path of the index file of a data file."""
    return folder / FOLDER / f"{name.removesuffix('.sqlite3')}.idx"


def remove_index_file(folder: Path, name: str) -> None:
    """Remove the index file of a data file. One that stays is removed by the index later."""
    with suppress(OSError):
        os.unlink(find_index_path(folder, name))


def list_index_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each index file, by the name of its data file."""
    sizes: dict[str, int] = {}
    with suppress(OSError), os.scandir(folder / FOLDER) as entries:
        for entry in entries:
            stem, _, suffix = entry.name.rpartition(".")
            if suffix == "idx":
                with suppress(OSError):  # removed since it was listed
                    sizes[f"{stem}.sqlite3"] = entry.stat().st_size
    return sizes


class IndexSize:
    """The bytes of all index files of a store, read again once their folder has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The change time of the folder, and the bytes that were read after it.
        self._known = (0, 0)

    def read(self) -> int:
        """Return the bytes."""
        try:
            changed = os.stat(self._folder / FOLDER).st_mtime_ns
        except OSError:
            return 0
        known, size = self._known
        if known != changed:
            size = sum(list_index_sizes(self._folder).values())
            self._known = (0 if is_recent(changed) else changed, size)
        return size
