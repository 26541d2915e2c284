"""The manifest of a backup: which copies belong to it, with their digests.

::

    <backup>/manifest.json             the list of the copies
    <backup>/lock                      held by the process that makes or restores the backup
    <backup>/<name>.<digest>           one copy, whose content never changes
    <backup>/<name>.partial            a copy that is not complete yet

The manifest is replaced in one step, after all its copies are durable. So at any time the folder
has one complete backup, whatever interrupts the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from portable_core.adapters.sqlite.files import sync_folder, translate_error
from portable_core.adapters.sqlite.private_files import make_file
from portable_core.errors import StoreDamaged, StoreError, StoreLocked
from portable_core.records import Integer

MANIFEST_NAME = "manifest.json"
_LOCK_NAME = "lock"
PARTIAL = ".partial"

#: The version of the manifest's form.
_VERSION = 1

_CHUNK = 2**20

#: After how many bytes a copy is made durable: longer writes at once delay the commits of a node.
_SYNC_BYTES = 8 * 2**20
_DIGEST = 16
_COPY_NAME = re.compile(r"[a-z0-9.]+\.sqlite3(\.[0-9a-f]{16}|\.partial)")

#: Seconds for which a copy waits for the lock of another program on the database.
_BUSY_S = 10.0


class Copy(msgspec.Struct, frozen=True):
    """One copy.

    - ``name``: the name of the database in the store.
    - ``file``: the name of the copy in the backup; ``size`` and ``sha256`` are those of the copy.
    - ``source``: inode, size and times of a database that was at rest when it was copied.
    """

    name: str
    file: str
    size: Integer
    sha256: str
    source: tuple[int, ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """The list of the copies of one store.

    ``started`` and ``finished`` are times in milliseconds. Everything that was acknowledged before
    ``started`` is in the backup.
    """

    version: int
    store: str
    generation: Integer
    started: Integer
    finished: Integer
    copies: tuple[Copy, ...]
    damaged: tuple[str, ...] = ()


class _File(msgspec.Struct):
    """The form of the file: a manifest, and the SHA-256 of its text."""

    sha256: str
    manifest: msgspec.Raw


def make_manifest(
    store: str,
    generation: int,
    times: tuple[int, int],
    copies: tuple[Copy, ...],
    damaged: tuple[str, ...],
) -> Manifest:
    return Manifest(_VERSION, store, generation, *times, copies, damaged)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest durably, in one step. Raise ``OSError``."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    content = _File(hashlib.sha256(text).hexdigest(), msgspec.Raw(text))
    partial = folder / f"{MANIFEST_NAME}{PARTIAL}"
    make_file(partial)
    with open(partial, "wb") as file:
        file.write(msgspec.json.encode(content))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / MANIFEST_NAME)
    sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest. Raise ``StoreDamaged``, ``StoreError`` if there is no backup."""
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{folder} contains no backup: {MANIFEST_NAME} is missing.") from None
    except OSError as error:
        raise translate_error(error, str(path)) from error
    try:
        content = msgspec.json.decode(text, type=_File)
        if content.sha256 != hashlib.sha256(content.manifest).hexdigest():
            raise ValueError("its digest differs")
        manifest = msgspec.json.decode(content.manifest, type=Manifest)
    except ValueError as error:
        raise StoreDamaged(f"{path} is damaged: {error}. Use another backup.") from error
    if manifest.version > _VERSION:
        raise StoreError(f"{path} was made by a newer version. Use that version.")
    for copy in manifest.copies:
        if "/" in copy.file or not _COPY_NAME.fullmatch(copy.file):
            raise StoreDamaged(f"{path} is damaged: {copy.file!r} is not the name of a copy.")
    return manifest


def remove_others(folder: Path, manifest: Manifest) -> None:
    """Remove the copies that do not belong to the backup. Raise ``OSError``."""
    kept = {copy.file for copy in manifest.copies}
    for path in list(folder.iterdir()):
        if path.name not in kept and _COPY_NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def hold_backup(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock of a backup; several processes may read it. Raise ``StoreLocked``.

    A backup on a medium that cannot be written needs no lock to be read.
    """
    path = folder / _LOCK_NAME
    try:
        if exclusive:
            make_file(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if exclusive:
            raise translate_error(error, str(path)) from error
        yield
        return
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreLocked(
            f"{folder} is in use by another backup or restore. Wait until it ends."
        ) from None
    finally:
        os.close(descriptor)


# -- copying ---------------------------------------------------------------------------------------


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file durably; return its size and its SHA-256. Raise ``OSError``."""
    digest, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    make_file(target)
    with open(source, "rb") as reading, open(target, "wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
            size += len(chunk)
            if size % _SYNC_BYTES < len(chunk):
                writing.flush()
                os.fdatasync(writing.fileno())
        writing.flush()
        os.fsync(writing.fileno())
    return size, digest.hexdigest()


def digest_file(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file. Raise ``OSError``."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that another process may be writing, as of one moment, durably.

    That process continues to write: it adds to its write-ahead log. Raise ``sqlite3.Error``,
    ``OSError``.
    """
    until = time.monotonic() + _BUSY_S

    def check(_: int, left: int, total: int) -> None:
        if left == total and time.monotonic() > until:
            raise sqlite3.OperationalError(f"{source.name} is locked by another program")

    target.unlink(missing_ok=True)
    make_file(target)
    address = f"file://{quote(str(source.absolute()))}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=1.0)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        writing.execute("PRAGMA journal_mode=OFF")
        writing.execute("PRAGMA synchronous=OFF")
        # In one step: SQLite begins a copy in steps again whenever another process writes.
        reading.backup(writing, pages=-1, progress=check)
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(f"{target}{suffix}")
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def make_copy_name(name: str, sha256: str) -> str:
    """Return the name of a copy, which no other content gets."""
    return f"{name.replace('/', '.')}.{sha256[:_DIGEST]}"
