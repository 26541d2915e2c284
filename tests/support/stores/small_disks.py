"""A file system so small that a test can fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import give_up


@contextmanager
def mount_small_disk(path: Path) -> Iterator[Path]:
    """A file system of 12 MB. Where none may be mounted, this fails in CI and skips elsewhere."""
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        give_up(f"cannot mount a small disk, which needs root: {mount.stderr}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
