"""Checking a folder for a node that is not started: nothing is written, and no lock is acquired.

SQLite itself writes when it reads a database in WAL mode: it creates the files ``-wal`` and
``-shm`` if they are missing. So the state is read

- as usual, if both exist: a process has the database open, or was killed;
- in a copy, if there is a log without its index: the folder was copied;
- as an immutable file otherwise.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.adapters.sqlite.files import (
    COMPANIONS,
    LOCK_NAME,
    RESTORING_ADVICE,
    RESTORING_NAME,
    STATE_NAME,
    FileDamaged,
)
from portable_core.adapters.sqlite.private_files import describe_exposure
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.errors import SettingsError, StoreError

_ADVICE = "Correct the permissions, or choose another STORE."


def check_folder(path: str, algorithm: str) -> tuple[list[str], list[str]]:
    """Return what would keep a node from opening this store, and warnings, each as a line."""
    folder = Path(path)
    try:
        faults = list(_find_faults(folder))
        if not faults and (folder / STATE_NAME).exists():
            with _open_state(folder) as state:
                if state.check_integrity():
                    state.open_for_reading(algorithm)
    except SettingsError as error:
        faults = [str(error)]
    except (StoreError, FileDamaged, OSError) as error:
        faults = [f"STORE: {folder} cannot be read: {error}"]
    return faults, list(filter(None, [describe_exposure(folder)]))


def _find_faults(folder: Path) -> Iterator[str]:
    """Yield why the folder cannot be created or used."""
    found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not found.is_dir():
        yield f"STORE: {found} is not a folder. Choose another STORE."
    elif found != folder:
        if not os.access(found, os.W_OK | os.X_OK):
            yield f"STORE: this process may not create {folder} in {found}. {_ADVICE}"
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield f"STORE: this process may not read and write {folder}. {_ADVICE}"
    elif (folder / RESTORING_NAME).exists():
        yield f"STORE: {folder}: {RESTORING_ADVICE}"
    else:
        for name in (LOCK_NAME, STATE_NAME):
            file = folder / name
            if file.exists() and not os.access(file, os.R_OK | os.W_OK):
                yield f"STORE: this process may not read and write {file}. {_ADVICE}"


@contextmanager
def _open_state(folder: Path) -> Iterator[State]:
    database, log, index = (folder / f"{STATE_NAME}{suffix}" for suffix in ("", *COMPANIONS))
    if log.exists() and not index.exists():
        with tempfile.TemporaryDirectory(prefix="webhook-sync-check-") as copy:
            for file in (database, log):
                shutil.copyfile(file, Path(copy, file.name))
            with _read_state(folder, Reader(Path(copy))) as state:
                yield state
    else:
        with _read_state(folder, Reader(folder, immutable=not log.exists())) as state:
            yield state


@contextmanager
def _read_state(folder: Path, reader: Reader) -> Iterator[State]:
    try:
        yield State(folder, reader, time.time, read_only=True)
    finally:
        reader.close()
