"""The data files of a store as the state saves them: one JSON object a file."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec

from portable_core.adapters.sqlite.files import FIRST_PLACE, DataFile, Extent, parse_name

_KEY = re.compile(rb"[0-9a-f]{28}")
_MOST = 2**63 - 1


class _FileRow(msgspec.Struct):
    """The JSON form of a file in the state; older versions saved fewer members.

    ``former`` is ``in_transition`` under its former name, which those versions read.

    ``told``, ``first`` and ``tail`` are the extent on which a reported horizon or cursor relies, or
    the whole one of a closed file; ``records`` is the number of its records.
    """

    inode: int
    damage: str = ""
    stamp: tuple[int, ...] = ()
    in_transition: bool = False
    former: bool = msgspec.field(default=False, name="unsettled")
    lost: str = ""
    told: tuple[int, str] = (0, "")
    first: str = ""
    sealed: bool = False
    records: int | None = None
    tail: str = ""
    log: tuple[int, ...] = ()


_decoder = msgspec.json.Decoder(_FileRow)


def encode_file(file: DataFile, *, durable: bool = False) -> dict[str, object]:
    """Return the JSON form of a file in the state; ``durable``: as is its extent."""
    extent = file.extent if durable or file.loss or file.closed or file.sealed else Extent()
    row = _FileRow(
        file.inode,
        file.damage,
        file.fingerprint,
        file.in_transition,
        file.in_transition,
        file.loss,
        (extent.rows, extent.last.decode()),
        extent.first.decode(),
        file.sealed,
        extent.count,
        extent.tail.decode(),
        file.log,
    )
    document: dict[str, object] = msgspec.to_builtins(row)
    return document


def decode_file(name: str, value: bytes) -> DataFile:
    """Return a file from its JSON form; its extent is the saved one. Raise ``ValueError``."""
    place = parse_name(name)
    if place is None:
        raise ValueError(f"{name} is not the name of a data file")
    row = _decoder.decode(value)
    rows, last = row.told
    count = row.records
    if count is None and rows < FIRST_PLACE:
        count = rows  # as older versions numbered them
    file = DataFile(
        *place,
        inode=row.inode,
        extent=Extent(rows, row.first.encode(), last.encode(), count, row.tail.encode()),
        damage=row.damage,
        fingerprint=row.stamp,
        in_transition=row.in_transition or row.former,
        loss=row.lost,
        sealed=row.sealed,
        log=row.log,
    )
    if file.closed and not _is_complete(file):
        return replace(file, fingerprint=())
    return file


def close_file(file: DataFile, fingerprint: tuple[int, ...]) -> DataFile:
    """Return the file as closed with this fingerprint; without one, or records, as it is."""
    closed = replace(file, fingerprint=fingerprint[:3], log=())
    return closed if closed.closed and _is_complete(closed) else file


def _is_complete(file: DataFile) -> bool:
    """Return whether ``known_files.py`` can pack the attributes of a closed file."""
    fingerprint, extent = file.fingerprint, file.extent
    return (
        len(fingerprint) == 3
        and fingerprint[0] == file.inode
        and 0 <= min(fingerprint) <= max(fingerprint) <= _MOST
        and 0 < extent.rows <= _MOST
        and extent.count is not None
        and 0 < extent.count <= _MOST
        and _KEY.fullmatch(extent.first) is not None
        and _KEY.fullmatch(extent.last) is not None
        and (not extent.tail or _KEY.fullmatch(extent.tail) is not None)
    )
