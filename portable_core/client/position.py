"""The durable position of a consumer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class PositionStore(Protocol):
    """Keeps the position of a consumer, for example in its own database."""

    def load(self) -> str | None:
        """Return the position saved last; None before the first one."""
        ...

    def save(self, position: str) -> None:
        """Save a position durably."""
        ...


class FilePosition:
    """A position in a file, replaced as a whole: after a crash it is the old one or the new one.

    Its methods raise ``OSError``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._saved: str | None = None

    def load(self) -> str | None:
        """Return the position; None if the file is missing or empty."""
        try:
            self._saved = self._path.read_text("ascii").strip() or None
        except FileNotFoundError:
            self._saved = None
        return self._saved

    def save(self, position: str) -> None:
        """Write the position to the disk, if it has changed."""
        if position == self._saved:
            return
        temporary = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(position.encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._saved = position
