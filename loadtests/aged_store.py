"""Make a store of many hours within seconds: one file an hour, as years of operation leave it.

One file is written through the store; every other one is a copy with other keys. The state has the
rows of version 0.1, which does not save how a file was closed, so that the first start has to read
every file.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from portable_core.adapters.sqlite import SqliteStore
from portable_core.adapters.sqlite.files import FIRST_PLACE, HOUR_MS, STATE_NAME, format_name
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record, format_sort_key

ALGORITHM = "crc32c"

_PAYLOAD = b'{"action":"opened","repository":{"id":7}}'
_META = Meta("github", {"content-type": "application/json", "x-github-event": "push"})


def make_aged_store(folder: Path, files: int, last_hour: int, *, records: int = 1) -> None:
    """Make a closed store with ``files`` files, the last one of the hour ``last_hour``."""
    store = SqliteStore(folder)
    store.open(ALGORITHM)
    store.close()
    template = _make_template(records)
    rows = []
    for hour in range(last_hour - files + 1, last_hour + 1):
        path = folder / format_name(hour, 0)
        content, last = template, b""
        for old, last in zip(_list_keys(0, records), _list_keys(hour, records), strict=True):
            content = content.replace(old, last)
        path.write_bytes(content)
        value = {
            "inode": os.stat(path).st_ino,
            "damage": "",
            "stamp": [],
            "in_transition": False,
            "lost": "",
            "told": [records, last.decode()],
        }
        rows.append((f"file:{path.name}", json.dumps(value).encode()))
    connection = sqlite3.connect(folder / STATE_NAME)
    connection.executemany("INSERT INTO state (key, value) VALUES (?, ?)", rows)
    connection.commit()
    connection.close()


def _list_keys(hour: int, records: int) -> Iterator[bytes]:
    """Return the keys of the records in the file of one hour, in order."""
    hash_ = hash_payload(_PAYLOAD)
    for number in range(records):
        yield format_sort_key(Pair(hour * HOUR_MS + number, hash_)).encode()


def _make_template(records: int) -> bytes:
    """Return the content of the file of hour 0."""
    hash_ = hash_payload(_PAYLOAD)
    with tempfile.TemporaryDirectory() as name:
        store = SqliteStore(name)
        store.open(ALGORITHM)
        store.append([Record(Pair(n, hash_), _PAYLOAD, _META) for n in range(records)])
        store.close()
        path = Path(name) / format_name(0, 0)
        with closing(sqlite3.connect(path)) as connection, connection:
            # The numbers of rows as versions without an order of arrival wrote them.
            connection.execute("UPDATE unnamed SET rowid = rowid - ?", (FIRST_PLACE - 1,))
        return path.read_bytes()
