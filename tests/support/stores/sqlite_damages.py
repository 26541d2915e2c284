"""Ways in which a file of a store may be damaged, and a store to damage."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from portable_core.adapters.sqlite import SqliteStore
from portable_core.records import Record
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import fill, list_data_files

#: Does something to a file that its store must notice.
DamageFile = Callable[[Path], None]


def overwrite(path: Path) -> None:
    path.write_bytes(random.Random(5).randbytes(path.stat().st_size))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace_with_text(path: Path) -> None:
    path.write_text("this is a text, and no database at all\n" * 50)


def replace_with_foreign_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.commit()
    connection.close()


def replace_with_other_store(path: Path) -> None:
    """A file of the right form, made with another hash algorithm."""
    other = path.parent.parent / "other"
    store = SqliteStore(other)
    store.open("blake2b-1")
    store.append([make_record(NOON + HOUR, 99)])
    store.close()
    shutil.move(list_data_files(other)[0], path)


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def remove(path: Path) -> None:
    path.unlink()


DAMAGES: list[DamageFile] = [
    overwrite,
    truncate,
    empty,
    replace_with_text,
    replace_with_foreign_database,
    replace_with_other_store,
    replace_with_folder,
    remove,
]


def make_hours() -> list[list[Record]]:
    """Three hours of records, so large that a file has many pages."""
    noise = random.Random(6)
    return [
        [make_record(NOON + hour * HOUR + i, i, noise.randbytes(500)) for i in range(50)]
        for hour in range(3)
    ]


def damage_middle(folder: Path, hours: list[list[Record]]) -> Path:
    """Fill the folder and return the file of the middle hour."""
    fill(folder, [record for hour in hours for record in hour])
    return list_data_files(folder)[1]
