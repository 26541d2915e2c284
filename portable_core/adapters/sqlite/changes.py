"""What an inspection of data files found, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from portable_core.adapters.sqlite.file_rows import encode_file
from portable_core.adapters.sqlite.files import DataFile
from portable_core.ports import Milliseconds


@dataclass(slots=True)
class Changes:
    """The changes of some files, which are noted newest first.

    - ``files``: the new attributes; ``unsaved``: those of them that the state lacks.
    - ``restored``: the names of files with records that came back, or are new.
    - ``lost``: files that are damaged, or have lost records, since now.
    - ``removed``: damaged files, as they were known, that the operator removed.
    - ``lost_from``: the time of the first record that can no longer be read, if there is one.
    """

    new_generation: bool = False
    lost_from: Milliseconds | None = None
    files: list[DataFile] = field(default_factory=list)
    unsaved: list[DataFile] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    lost: list[DataFile] = field(default_factory=list)
    removed: list[DataFile] = field(default_factory=list)

    def note(self, before: DataFile | None, after: DataFile, *, late: bool) -> None:
        """Note a file that was inspected.

        ``late``: it was readable with its old extent until now, and a horizon may have been
        reported since.
        """
        was_damaged = before is not None and before.damage
        restored = before is not None and (
            (before.loss and not after.loss)
            or (late and after.writable and before.extent != after.extent)
        )
        new_loss = bool(after.loss and (before is None or after.loss != before.loss))
        lost = after.damage or new_loss
        new = before is None or was_damaged or restored or (new_loss and after.is_other)
        if new and not after.damage and after.extent.rows:
            self.restored.append(after.name)
            self.new_generation = True
        if lost and not was_damaged:
            self.lost.append(after)
            self.lost_from = after.start  # the files come newest first
        if before is not None and was_damaged and before.fingerprint and after.is_missing:
            self.removed.append(before)  # by the operator, which ends the damage
            return
        self.files.append(after)
        reopened = before is not None and before.closed and after.writable and not after.closed
        if reopened and before is not None and before.inode == after.inode:
            return  # it was written again before a crash; its saved extent still holds
        if before is None or encode_file(before) != encode_file(after):
            self.unsaved.append(after)
