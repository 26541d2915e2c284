"""Folders and files that other users of the machine cannot enter or read, whatever the umask.

A new folder has mode 0700 and a new file 0600. Where the folder around them has the setgid bit, its
group gets the access that it has to that folder: the bit marks a folder that a group shares, and
Kubernetes sets it for ``fsGroup``. SQLite gives the files beside a database the database's mode.

What exists keeps its mode, because that may be the operator's choice: :func:`describe_exposure`
names what other users can read or lock.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from portable_core.adapters.sqlite.files import (
    LOCK_NAME,
    PID_NAME,
    sync_folder,
    translate_error,
)

#: The most files that :func:`describe_exposure` looks at.
_MOST_FILES = 1000

#: Access by the owner, the group or others.
_ENTER, _WRITE, _READ = 0o111, 0o222, 0o444


def make_folder(folder: Path) -> None:
    """Create the folder and those above it, as far as they are missing, durably.

    Raise ``StoreError``.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
        for path in reversed(missing):
            path.mkdir(mode=stat.S_IRWXU, exist_ok=True)
            _set_mode(path, stat.S_IRWXU | _find_group_access(path.parent))
            sync_folder(path.parent)
    except OSError as error:
        raise translate_error(error, str(folder)) from error


def make_file(path: Path) -> None:
    """Create an empty file if it does not exist. Raise ``OSError``.

    A file that exists is not opened: closing it would end this process's locks on it.
    """
    private = stat.S_IRUSR | stat.S_IWUSR
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, private)
        try:
            _set_mode(descriptor, private | _find_group_access(path.parent) & ~_ENTER)
        finally:
            os.close(descriptor)


def _find_group_access(folder: Path) -> int:
    """Return the mode bits that the folder's group gets for what is created in it."""
    mode = os.stat(folder).st_mode
    return mode & stat.S_IRWXG if mode & stat.S_ISGID else 0


def _set_mode(file: Path | int, access: int) -> None:
    """Set the permission bits; keep the others, such as setgid."""
    mode = stat.S_IMODE(os.stat(file).st_mode)
    wanted = mode & ~0o777 | access
    if mode != wanted:
        with suppress(OSError):  # a file system without modes; describe_exposure sees it
            os.chmod(file, wanted)


def describe_exposure(folder: Path) -> str:
    """Return which part of the store other users can read, and how to end it; empty for nothing.

    Look at a limited number of files: those of one store usually have the same mode.
    """
    try:
        mode = os.stat(folder).st_mode
        who, others = ("o", stat.S_IRWXO) if mode & stat.S_ISGID else ("go", stat.S_IRWXG | 0o007)
        if not mode & others & _ENTER:
            return ""
        exposed = ""
        if mode & others & _WRITE and not mode & stat.S_ISVTX:
            exposed = str(folder)
        for path, mode in _list_modes(folder):
            if exposed:
                break
            exposed = path if mode & others & (_READ | _WRITE) else ""
    except OSError:
        return ""  # what is wrong with the folder is reported where it is opened
    if not exposed:
        return ""
    return (
        f"{exposed}: other users of this machine have access (mode {mode & 0o7777:04o}). "
        f"End it with: chmod {who}-rwx {folder}"
    )


def _list_modes(folder: Path) -> Iterator[tuple[str, int]]:
    """Return paths and modes of the store's files."""
    with os.scandir(folder) as entries:
        for entry in islice(entries, _MOST_FILES):
            if entry.name in (LOCK_NAME, PID_NAME) or ".sqlite3" in entry.name:
                yield entry.path, entry.stat().st_mode
