"""Images of the disk of a SQLite store: its folder byte for byte.

An image is put back in place. Like a snapshot of a block device, this leaves no trace beside the
bytes themselves: files keep their inodes and modification times, and the lock file, which no store
changes, also its change time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from portable_core.adapters.sqlite.files import LOCK_NAME

_UNCHANGED = (LOCK_NAME,)


@dataclass(frozen=True, slots=True)
class DiskImage:
    """The bytes and the modification time of each file, by name."""

    files: dict[str, tuple[bytes, int]]

    @classmethod
    def take(cls, folder: Path) -> DiskImage:
        return cls(
            {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        )

    def put_back(self, folder: Path) -> None:
        """Give the folder, which no process uses, the files of this image."""
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, (content, mtime) in self.files.items():
            path = folder / name
            if name in _UNCHANGED and path.exists():
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                file.write(content)
                file.truncate()
            os.utime(path, ns=(mtime, mtime))
