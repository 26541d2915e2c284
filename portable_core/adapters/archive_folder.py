"""The folder of an archive: compressed files of lines, and a manifest with their digests.

A stretch is written to a partial file, made durable, read again and compared; then it gets its name
and an entry in the manifest, which is replaced in one step. So an interruption leaves whole
stretches alone, and what is removed from a master was verified before. Files can be read by
``zstd -dc FILE``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from portable_core.errors import SettingsError, StoreDamaged, StoreError
from portable_core.ports import Milliseconds
from portable_core.records import Pair, Record
from portable_core.webhooks.archived import (
    ArchiveManifest,
    Digests,
    Stretch,
    decode_archived,
    encode_archived,
)
from portable_core.zstd import compress, read_frames

MANIFEST_NAME = "manifest.json"
_PARTIAL = ".partial"
_LOCK_NAME = "lock"
_VERSION = 1

_FRAME_BYTES = 1024 * 1024
_LEVEL = 6
_CHUNK_BYTES = 1024 * 1024


class ArchiveFolder:
    """An archive that this process changes; others that would, fail meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Create the folder, for its owner alone, and lock it. Raises ``StoreError``."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.path / _LOCK_NAME, "wb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreError(f"{self.path}: another command uses this archive.") from None
                yield
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error

    # -- the manifest ------------------------------------------------------------------------------

    def read_manifest(self) -> ArchiveManifest | None:
        """Return the manifest; None without one. Raises ``StoreDamaged`` and ``StoreError``."""
        path = self.path / MANIFEST_NAME
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=ArchiveManifest)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path}: {error}") from error
        except ValueError as error:
            raise StoreDamaged(f"{path} is damaged: {error}. Restore it from a backup.") from error
        if manifest.version > _VERSION:
            raise StoreError(f"{path} was made by a newer version. Use that version.")
        return manifest

    def require_manifest(self) -> ArchiveManifest:
        manifest = self.read_manifest()
        if manifest is None:
            raise StoreError(f"{self.path} contains no archive: {MANIFEST_NAME} is missing.")
        return manifest

    def open_for(self, store: str, algorithm: str) -> ArchiveManifest:
        """Return the manifest for a store. Raises ``SettingsError`` if it is that of another."""
        manifest = self.read_manifest() or ArchiveManifest(store, algorithm)
        if (manifest.store, manifest.hash) != (store, algorithm):
            raise SettingsError(
                f"{self.path}: has the archive of the store {manifest.store} with "
                f"{manifest.hash} (the master has {store} with {algorithm}). Use another folder."
            )
        return manifest

    def _save(self, manifest: ArchiveManifest) -> None:
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        partial = self.path / f"{MANIFEST_NAME}{_PARTIAL}"
        with _create(partial) as file:
            file.write(text)
            _sync(file)
        os.replace(partial, self.path / MANIFEST_NAME)
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- writing -----------------------------------------------------------------------------------

    def write(
        self,
        manifest: ArchiveManifest,
        start: Milliseconds,
        end: Milliseconds,
        records: Iterable[Record],
    ) -> tuple[ArchiveManifest, Stretch]:
        """Add a stretch durably, unless the archive has an equal one.

        Returns the manifest and the stretch.
        """
        partial = self.path / f"stretch{_PARTIAL}"
        digests = Digests()
        with _create(partial) as file:
            for block in _join(_encode(records, digests)):
                file.write(compress(block, _LEVEL))
            _sync(file)
        count, pairs, lines = digests.read()
        for known in manifest.stretches:
            if (known.start, known.end, known.lines) == (start, end, lines):
                self.verify(known)
                partial.unlink()
                return manifest, known
        name = f"{_format_hour(start)}--{_format_hour(end)}.{lines[:12]}.ndjson.zst"
        size, sha256 = partial.stat().st_size, _digest_file(partial)
        stretch = Stretch(name, start, end, count, size, sha256, pairs, lines)
        os.replace(partial, self.path / name)
        self._sync_folder()
        self.verify(stretch)
        stretches = sorted([*manifest.stretches, stretch], key=lambda each: (each.start, each.end))
        manifest = replace(manifest, stretches=tuple(stretches))
        self._save(manifest)
        return manifest, stretch

    # -- reading -----------------------------------------------------------------------------------

    def verify(self, stretch: Stretch) -> None:
        """Read a stretch whole and compare its digests. Raises ``StoreDamaged``."""
        for _ in self.read(stretch):
            pass

    def read(self, stretch: Stretch) -> Iterator[tuple[Record, bytes]]:
        """Yield the records of a stretch with their lines, then compare all digests.

        That of the file is compared before the first record. Raises ``StoreDamaged``.
        """
        path, digests = self.path / stretch.file, Digests()
        try:
            if _digest_file(path) != stretch.sha256:
                raise ValueError("its digest differs from that of the manifest")
            with open(path, "rb") as file, read_frames(file) as opened:
                for line in opened:
                    record = decode_archived(line)
                    digests.add(record.pair, line)
                    yield record, line
        except FileNotFoundError as error:
            raise StoreDamaged(f"{path} is missing. Restore it from a backup.") from error
        except OSError as error:
            raise StoreError(f"{path}: {error}") from error
        except ValueError as error:
            raise StoreDamaged(f"{path} is damaged: {error}. Restore it from a backup.") from error
        if digests.read() != (stretch.records, stretch.pairs, stretch.lines):
            raise StoreDamaged(f"{path} is damaged: its records are not those of the manifest.")

    # -- erasing -----------------------------------------------------------------------------------

    def erase(self, pair: Pair) -> str | None:
        """Rewrite the stretches with a record, without it; return its key, None without any."""
        manifest, found = self.require_manifest(), None
        for old in manifest.stretches:
            if not old.start <= pair.timestamp < old.end:
                continue
            keys = [record.meta.key for record, _ in self.read(old) if record.pair == pair]
            if not keys:
                continue
            found = keys[0]
            rest = (record for record, _ in self.read(old) if record.pair != pair)
            manifest, new = self.write(manifest, old.start, old.end, rest)
            kept = tuple(each for each in manifest.stretches if each.file != old.file)
            manifest = replace(manifest, stretches=kept)
            self._save(manifest)
            if new.file != old.file:
                (self.path / old.file).unlink()
                self._sync_folder()
        return found


def _encode(records: Iterable[Record], digests: Digests) -> Iterator[bytes]:
    for record in records:
        line = encode_archived(record)
        if decode_archived(line) != record:
            raise StoreError(f"the record {record.pair} cannot be archived exactly")
        digests.add(record.pair, line)
        yield line


def _join(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Return lines in blocks, each of which becomes a frame."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= _FRAME_BYTES:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)


@contextmanager
def _create(path: Path) -> Iterator[BinaryIO]:
    """Create a file for its owner alone; remove it after an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield file
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        read: Callable[[], bytes] = lambda: file.read(_CHUNK_BYTES)  # noqa: E731
        for chunk in iter(read, b""):
            digest.update(chunk)
    return digest.hexdigest()


def _format_hour(time: Milliseconds) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%dT%H}"
