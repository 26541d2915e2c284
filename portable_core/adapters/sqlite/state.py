"""The state of a SQLite store beside its records: identity, generation, marks, files, gaps."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from portable_core.adapters.sqlite.file_rows import encode_file
from portable_core.adapters.sqlite.files import FileDamaged
from portable_core.adapters.sqlite.known_files import KnownFiles
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state_file import FILES, Changes, StateFile
from portable_core.adapters.sqlite.stretches import PLACES, rewind
from portable_core.errors import SettingsError, StoreDamaged, StoreError
from portable_core.ports import MAX_SPAN_MS, Damage, Lease, Milliseconds

logger = logging.getLogger(__name__)

#: The most gaps that are kept; beyond that, the oldest two are merged.
_MAX_GAPS = 100

#: The most damaged files that are remembered after an operator removed them.
_MAX_REMOVED = 50


class State(StateFile):
    """The values of the state, by their meaning. Safe to use from any thread."""

    def __init__(
        self, folder: Path, reader: Reader, clock: Callable[[], float], *, read_only: bool = False
    ) -> None:
        super().__init__(folder, reader, clock, read_only=read_only)
        self.files = KnownFiles()
        #: The files that the next commit saves as they are known then.
        self._noted: set[str] = set()

    # -- opening -----------------------------------------------------------------------------------

    def open(self, algorithm: str, until: float) -> None:
        """Read the state, or create it with a new identity.

        Raise ``SettingsError`` if the store was created with another hash algorithm.
        """
        if self.path.exists():
            try:
                if self.check_integrity():
                    self.load()
                    self.files.replace_all(self.read_files())
            except (FileDamaged, StoreDamaged) as error:
                self.set_aside(error)
        self._check_algorithm(algorithm)
        self.connect(until)
        if not self.values["store"]:
            identity = {"uuid": str(uuid.uuid4()), "algorithm": algorithm, "generation": 1}
            logger.info("%s: created a new store, %s", self.folder, identity["uuid"])
            changes = {("store", name): value for name, value in identity.items()}
            # Older versions need a witness; they take a store with this one for a copy.
            self.commit({**changes, ("store", "witness"): []}, until)

    def open_for_reading(self, algorithm: str) -> None:
        """Read the state. An empty ``algorithm`` matches any."""
        try:
            self.load()
            self.files.replace_all(self.read_files())
        except FileDamaged as error:
            raise StoreError(
                f"{self.folder} contains no store that can be read: {error}"
            ) from error
        if not self.values["store"]:
            raise StoreError(f"{self.folder} contains no store yet. Retry after its first start.")
        if algorithm:
            self._check_algorithm(algorithm)

    def _check_algorithm(self, algorithm: str) -> None:
        created_with = self.values["store"].get("algorithm", algorithm)
        if created_with != algorithm:
            raise SettingsError(
                f"HASH: the store in {self.folder} was created with {created_with} "
                f"(got {algorithm}). Restore HASH and HASH_KEY, or choose another STORE."
            )

    # -- identity, marks, files --------------------------------------------------------------------

    @property
    def uuid(self) -> str:
        return str(self.values["store"]["uuid"])

    @property
    def generation(self) -> int:
        return int(self.values["store"]["generation"])

    @property
    def algorithm(self) -> str:
        return str(self.values["store"]["algorithm"])

    def mark(self, name: str) -> int:
        return int(self.values["mark"].get(name, 0))

    def marks(self, prefix: str) -> dict[str, int]:
        marks = dict(self.values["mark"])
        return {name: int(value) for name, value in marks.items() if name.startswith(prefix)}

    def raise_mark(self, name: str, value: int, until: float) -> int:
        if self.mark(name) < value:
            with self.writing(until):
                if self.mark(name) < value:
                    self.commit_with_files({("mark", name): value}, until)
        return self.mark(name)

    def set_mark(self, name: str, value: int, until: float) -> None:
        if self.mark(name) != value:
            with self.writing(until):
                self.commit_with_files({("mark", name): value or None}, until)

    # -- the data files ----------------------------------------------------------------------------

    def note_file(self, name: str) -> None:
        """Note that a file is not saved as it is known; the next :meth:`commit_with_files` does it.

        To be called once the file's extent is durable.
        """
        self._noted.add(name)

    def commit_with_files(self, changes: Changes, until: float) -> None:
        """Commit changes together with the noted files.

        To be called within :meth:`writing`. A raised mark or a cursor reports that every record
        before a time is in the store. The extents in the same commit let the next process notice
        if any of these records has disappeared.
        """
        noted = {self._noted.pop() for _ in range(len(self._noted))}
        values: dict[tuple[str, str], object] = {}
        for name in noted:
            file = self.files.get(name)
            if file is None:
                values[FILES, name] = None
            elif file.readable:  # otherwise save_files is about to save it
                values[FILES, name] = encode_file(file, durable=True)
        try:
            self.commit({**values, **changes}, until)
        except BaseException:
            self._noted |= noted
            raise

    def close(self, until: float) -> None:
        """Save the noted files if possible, and close. Otherwise the next process reads them."""
        if self._noted and self._writer is not None:
            with suppress(StoreError), self.writing(until):
                self.commit_with_files({}, until)
        super().close(until)

    def save_files(
        self,
        files: Mapping[str, object],
        until: float,
        *,
        new_generation: bool = False,
        lost_from: Milliseconds | None = None,
        removed: Sequence[Damage] = (),
        came_back: int | None = None,
    ) -> None:
        """Save the files in one commit, with None to delete one; what was noted is replaced.

        - ``new_generation``: records may have come back, so the generation increases.
        - ``lost_from``: records from this time on can no longer be read. They are not represented
          here any more, and neither are the webhooks that they represented within a span of them.
          So every cursor is set back to at least one span before this time, and parts of windows
          are dropped. A running sync loses its lease; otherwise it would advance its cursor again.
        - ``removed``: damaged files that are removed. The last ones are remembered.
        - ``came_back``: the first rowid of records that came back. Positions after it are unknown
          from now on.

        A read-only process saves nothing.
        """
        if self.read_only:
            return
        with self.writing(until):
            changes: dict[tuple[str, str], object] = {
                (FILES, name): value for name, value in files.items()
            }
            if new_generation:
                generation = max(self.generation + 1, int(self.clock() * 1000))
                changes["store", "generation"] = generation
                logger.warning("%s: generation %d begins", self.folder, generation)
            if removed:
                damages = [*self.removed_damage(), *removed][-_MAX_REMOVED:]
                changes["store", "removed"] = [
                    [damage.name, damage.reason, damage.start, damage.end] for damage in damages
                ]
            if came_back is not None:
                changes["store", PLACES] = rewind(self.values["store"].get(PLACES, {}), came_back)
            if lost_from is not None:
                back = max(lost_from - MAX_SPAN_MS, 0)
                for name, slave in self.values["slave"].items():
                    if slave["cursor"] is not None:
                        cursor = min(slave["cursor"], back)
                        kept = {key: value for key, value in slave.items() if key != "part"}
                        changes["slave", name] = {**kept, "cursor": cursor}
                lease = self.lease()
                if lease.holder:
                    changes["store", "lease"] = [lease.token + 1, "", 0]
            self.commit_with_files(changes, until)

    def removed_damage(self) -> list[Damage]:
        """Return the damaged files that were removed; their records are lost."""
        return [Damage(*damage) for damage in self.values["store"].get("removed", ())]

    def lease(self) -> Lease:
        """Return the newest lease; a lease without a holder is free."""
        return Lease(*self.values["store"].get("lease", (0, "", 0)))

    def slaves(self) -> dict[str, dict[str, Any]]:
        return dict(self.values["slave"])

    def gaps(self) -> tuple[tuple[Milliseconds, Milliseconds], ...]:
        return tuple((start, end) for start, end in self.values["store"].get("gaps", ()))

    def save_gap(self, gap: tuple[Milliseconds, Milliseconds], until: float) -> None:
        with self.writing(until):
            gaps = sorted([*self.gaps(), gap])
            while len(gaps) > _MAX_GAPS:
                first, second, *rest = gaps
                gaps = [(first[0], max(first[1], second[1])), *rest]
            self.commit({("store", "gaps"): gaps}, until)
