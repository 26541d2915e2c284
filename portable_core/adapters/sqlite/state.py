"""What a SQLite store remembers besides records: identity, generation, marks, files, gaps."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from portable_core.adapters.sqlite.files import Extent, FileDamaged, encode_extent
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state_file import Changes, StateFile
from portable_core.errors import SettingsError, StoreDamaged, StoreError
from portable_core.ports import MAX_SPAN_MS, Lease, Milliseconds

logger = logging.getLogger(__name__)

#: Gaps that are remembered; of more, the oldest become one.
_MAX_GAPS = 100


class State(StateFile):
    """What the values mean. Safe to use from any thread."""

    def __init__(
        self, folder: Path, reader: Reader, clock: Callable[[], float], *, read_only: bool = False
    ) -> None:
        super().__init__(folder, reader, clock, read_only=read_only)
        #: What files hold durably and the state does not remember yet, by name.
        self._unsaved_extents: dict[str, Extent] = {}

    # -- life --------------------------------------------------------------------------------------

    def open(self, algorithm: str, witness: list[int], until: float) -> bool:
        """Read the state, or make it, with a new identity. Returns whether the folder was copied
        or restored: the ``witness`` is not the one that was left then (see ``lock.py``).

        Raises ``SettingsError`` if the store was made with another hash algorithm.
        """
        if self.path.exists():
            try:
                if self.check_integrity():
                    self.load()
            except (FileDamaged, StoreDamaged) as error:
                self.set_aside(error)
        self._check_algorithm(algorithm)
        self.connect(until)
        if not self.values["store"]:
            identity = {"uuid": str(uuid.uuid4()), "algorithm": algorithm, "generation": 1}
            logger.info("%s: a new store, %s", self.folder, identity["uuid"])
            changes = {("store", name): value for name, value in identity.items()}
            self.commit({**changes, ("store", "witness"): [*witness, self.inode]}, until)
        restored: bool = self.values["store"]["witness"] != [*witness, self.inode]
        if restored:
            logger.warning("%s: this folder was copied or restored", self.folder)
        return restored

    def save_witness(self, witness: list[int], until: float) -> None:
        """Remember the witness after the generation has grown."""
        with self.writing(until):
            self.commit({("store", "witness"): [*witness, self.inode]}, until)

    def open_for_reading(self, algorithm: str) -> None:
        """Read the state. An empty ``algorithm`` stands for any."""
        try:
            self.load()
        except FileDamaged as error:
            raise StoreError(f"{self.folder} holds no store that can be read: {error}") from error
        if not self.values["store"]:
            raise StoreError(f"{self.folder} holds no store yet; try again when it was made")
        if algorithm:
            self._check_algorithm(algorithm)

    def _check_algorithm(self, algorithm: str) -> None:
        made_with = self.values["store"].get("algorithm", algorithm)
        if made_with != algorithm:
            raise SettingsError(
                f"HASH: the store in {self.folder} was made with {made_with}, not {algorithm}; "
                "set HASH and HASH_KEY as they were, or choose another STORE"
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
                    self.commit_with_extents({("mark", name): value}, until)
        return self.mark(name)

    # -- what the files hold -----------------------------------------------------------------------

    def note_extent(self, name: str, extent: Extent) -> None:
        """A file holds this durably; to be remembered by the next :meth:`commit_with_extents`."""
        self._unsaved_extents[name] = extent

    def commit_with_extents(self, changes: Changes, until: float) -> None:
        """Commit what tells somebody that all before a moment is here, and with it what the files
        hold, so that the next process notices if any of it is gone. Under :meth:`writing`."""
        # noted after its commit, so what is remembered is never ahead of what is durable
        noted = {name: self._unsaved_extents.pop(name) for name in list(self._unsaved_extents)}
        files = self.values["file"]
        told = {
            ("file", name): {**files[name], "told": encode_extent(extent)}
            for name, extent in noted.items()
            if name in files and not files[name]["damage"]
        }
        try:
            self.commit({**changes, **told}, until)
        except BaseException:
            for name, extent in noted.items():
                self._unsaved_extents.setdefault(name, extent)
            raise

    def files(self) -> dict[str, dict[str, Any]]:
        """What is remembered of each data file."""
        return dict(self.values["file"])

    def save_files(
        self,
        files: Mapping[str, object],
        until: float,
        *,
        new_generation: bool = False,
        lost_from: Milliseconds | None = None,
    ) -> None:
        """Remember the files, None for one that is gone, all at once; what they held before is
        forgotten.

        ``grow``: records may have come back, so the generation grows. ``lost_from``: records from
        then on cannot be read any more, so that they are not represented here, nor what they
        represented within a span of them. Every cursor is set back to before that, and a sync under
        way loses its lease, or it would move its cursor on again.
        Nothing happens in a process that only reads.
        """
        if self.read_only:
            return
        with self.writing(until):
            changes: dict[tuple[str, str], object] = {
                ("file", name): value for name, value in files.items()
            }
            if new_generation:
                generation = max(self.generation + 1, int(self.clock() * 1000))
                changes["store", "generation"] = generation
                logger.warning("%s: generation %d begins", self.folder, generation)
            if lost_from is not None:
                back = max(lost_from - MAX_SPAN_MS, 0)
                for name, slave in self.values["slave"].items():
                    if slave["cursor"] is not None and slave["cursor"] > back:
                        changes["slave", name] = {**slave, "cursor": back}
                lease = self.lease()
                if lease.holder:
                    changes["store", "lease"] = [lease.token + 1, "", 0]
            self.commit(changes, until)
            for name in files:
                self._unsaved_extents.pop(name, None)

    def lease(self) -> Lease:
        """The newest lease; one without a holder is free."""
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
